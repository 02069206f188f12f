#include "sim/config.h"

#include <array>
#include <utility>

#include "core/error.h"

namespace sparsecore::sim {
namespace {

[[noreturn]] void refuse(const std::string& what, const std::string& where, const std::string& expected) {
    throw core::Error("ConfigError", what, where, expected);
}

int log2_exact(int64_t value, const char* name) {
    if (value < 1 || (value & (value - 1)) != 0) {
        refuse(std::string(name) + " is " + std::to_string(value), "memory", "a power of two");
    }
    int bits = 0;
    while ((int64_t{1} << bits) < value) ++bits;
    return bits;
}

void check_map(const DramConfig& config) {
    const Organisation& o = config.organisation;
    const std::array<std::pair<const char*, int64_t>, 6> sizes = {{{"channel", o.channels},
                                                                   {"pseudo_channel", o.pseudo_channels},
                                                                   {"bank_group", o.bank_groups},
                                                                   {"bank", o.banks_per_group},
                                                                   {"column", o.columns},
                                                                   {"row", o.rows}}};
    std::array<int, 6> covered{};
    for (const MapSlice& slice : config.map) {
        if (slice.bits < 0 || slice.bits > 40) {
            refuse("a slice has " + std::to_string(slice.bits) + " bits", "address_map", "0 to 40");
        }
        covered[static_cast<size_t>(slice.field)] += slice.bits;
    }
    for (size_t i = 0; i < sizes.size(); ++i) {
        const int bits = log2_exact(sizes[i].second, sizes[i].first);
        if (covered[i] != bits) {
            refuse(std::string("the address map gives ") + std::to_string(covered[i]) + " bits to " + sizes[i].first,
                   "address_map", std::to_string(bits) + " bits for " + std::to_string(sizes[i].second));
        }
    }
    int address_bits = log2_exact(o.burst_bytes, "burst_bytes");
    for (const MapSlice& slice : config.map) address_bits += slice.bits;
    if (address_bits > 48) refuse("the memory has more than 2^48 bytes", "organisation", "48 address bits or fewer");
    if (o.channels > 1024 || o.pseudo_channels > 16) {
        refuse("too many channels", "organisation", "1024 channels of 16 pseudo-channels or fewer");
    }
    if (o.banks() > 64) refuse("more than 64 banks in a pseudo-channel", "organisation", "64 or fewer");
}

}  // namespace

void validate(const DramConfig& config) {
    check_map(config);
    const Timing& t = config.timing;
    const std::array<std::pair<const char*, int64_t>, 19> times = {
        {{"tRCD read", t.rcd_read}, {"tRCD write", t.rcd_write}, {"tRP", t.rp}, {"tRAS", t.ras}, {"tRRD_S", t.rrd_short},
         {"tRRD_L", t.rrd_long}, {"tFAW", t.faw}, {"tCCD_S", t.ccd_short}, {"tCCD_L", t.ccd_long},
         {"tWTR_S", t.wtr_short}, {"tWTR_L", t.wtr_long}, {"tRTP", t.rtp}, {"tWR", t.wr}, {"tRTW", t.rtw}, {"CL", t.cl},
         {"CWL", t.cwl}, {"burst", t.burst}, {"tRFC", t.rfc}, {"tREFI", t.refi}}};
    for (const auto& [name, value] : times) {
        if (value < 0 || value > (int64_t{1} << 30)) {
            refuse(std::string(name) + " is " + std::to_string(value) + " ticks", "timing", "0 to 2^30");
        }
    }
    if (t.burst < 1) refuse("a burst takes no time", "timing", "1 tick or more: zero would be infinite bandwidth");
    if (t.ccd_short < t.burst) refuse("tCCD_S is shorter than the burst", "timing", "tCCD_S >= burst");
    if (t.ccd_long < t.ccd_short) refuse("tCCD_L is shorter than tCCD_S", "timing", "tCCD_L >= tCCD_S");
    if (t.rrd_long < t.rrd_short) refuse("tRRD_L is shorter than tRRD_S", "timing", "tRRD_L >= tRRD_S");
    if (t.ras < t.rcd_read) refuse("tRAS is shorter than tRCD", "timing", "tRAS >= tRCD");
    if (t.refi != 0 && t.refi <= t.rfc + t.rp + t.ras) {
        refuse("tREFI leaves no time between refreshes", "timing", "tREFI > tRFC + tRP + tRAS, or 0 for no refresh");
    }
    if (t.act_slots < 0 || t.pre_slots < 0) refuse("a row command has negative length", "timing", "0 or more");
    if (config.admission.depth < 1) refuse("the queue depth is 0", "admission", "1 or more");
    if (config.admission.run_ahead < 1) refuse("run_ahead is 0", "admission", "1 or more");
}

}  // namespace sparsecore::sim
