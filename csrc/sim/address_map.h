// Cutting the number of a burst into channel, bank, row and so on.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/config.h"

namespace sparsecore::sim {

struct Location {
    int32_t channel = 0;
    int32_t bank = 0;  // inside the channel: unit-major, then stack id, bank group, bank
    int64_t row = 0;
};

class AddressMap {
public:
    explicit AddressMap(const DramConfig& config) : organisation_(config.organisation), slices_(config.map) {}

    // `line` is an address divided by the bytes of a burst, inside the memory's capacity.
    Location locate(int64_t line) const {
        int64_t fields[kFields] = {};
        int filled[kFields] = {};
        for (const MapSlice& slice : slices_) {
            const auto f = static_cast<size_t>(slice.field);
            fields[f] |= (line & ((int64_t{1} << slice.bits) - 1)) << filled[f];
            filled[f] += slice.bits;
            line >>= slice.bits;
        }
        const Organisation& o = organisation_;
        const int64_t unit = at(fields, Field::Pseudo) * o.ranks + at(fields, Field::Rank);
        const int64_t group = at(fields, Field::Stack) * o.bank_groups + at(fields, Field::Group);
        const int64_t bank = (unit * o.groups() + group) * o.banks_per_group + at(fields, Field::Bank);
        return {static_cast<int32_t>(at(fields, Field::Channel)), static_cast<int32_t>(bank), at(fields, Field::Row)};
    }

private:
    static int64_t at(const int64_t* fields, Field field) { return fields[static_cast<size_t>(field)]; }

    Organisation organisation_;
    std::vector<MapSlice> slices_;
};

}  // namespace sparsecore::sim
