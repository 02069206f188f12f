#include "sim/config.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"

namespace sparsecore::sim {
namespace {

using Named = std::pair<const char*, int64_t>;

[[noreturn]] void refuse(const std::string& what, const std::string& where, const std::string& expected) {
    throw core::Error("ConfigError", what, where, expected);
}

void in_range(const Named& item, int64_t low, int64_t high, const std::string& where) {
    if (item.second >= low && item.second <= high) return;
    refuse(std::string(item.first) + " is " + std::to_string(item.second), where,
           std::to_string(low) + " to " + std::to_string(high));
}

int log2_exact(const Named& item) {
    const int64_t value = item.second;
    if (value < 1 || (value & (value - 1)) != 0) {
        refuse(std::string(item.first) + " is " + std::to_string(value), "organisation", "a power of two");
    }
    int bits = 0;
    while ((int64_t{1} << bits) < value) ++bits;
    return bits;
}

void check_map(const DramConfig& config) {
    const Organisation& o = config.organisation;
    const std::array<Named, kFields> sizes = {{{"channels", o.channels}, {"pseudo_channels", o.pseudo_channels},
                                               {"ranks", o.ranks}, {"stack_ids", o.stack_ids},
                                               {"bank_groups", o.bank_groups}, {"banks_per_group", o.banks_per_group},
                                               {"columns", o.columns}, {"rows", o.rows}}};
    std::array<int, kFields> covered{};
    int address_bits = log2_exact({"burst_bytes", o.burst_bytes});
    for (const MapSlice& slice : config.map) {
        in_range({"a slice's number of bits", slice.bits}, 0, 40, "address_map");
        covered[static_cast<size_t>(slice.field)] += slice.bits;
        address_bits += slice.bits;
    }
    for (size_t i = 0; i < sizes.size(); ++i) {
        const int bits = log2_exact(sizes[i]);
        if (covered[i] != bits) {
            refuse("the address map gives " + std::to_string(covered[i]) + " bits to " + sizes[i].first, "address_map",
                   std::to_string(bits) + " bits for " + std::to_string(sizes[i].second));
        }
    }
    if (address_bits > 48) refuse("the memory has more than 2^48 bytes", "organisation", "48 address bits or fewer");
    in_range({"channels", o.channels}, 1, 1024, "organisation");
    in_range({"the number of banks of a channel", o.channel_banks()}, 1, 4096, "organisation");
    in_range({"pseudo_channels x ranks", o.units()}, 1, 64, "organisation");
}

void check_timing(const Timing& t, Refresh refresh) {
    const std::array<Named, 26> times = {
        {{"tBURST", t.burst}, {"tCL", t.cl}, {"tCWL", t.cwl}, {"tRCDRD", t.rcd_read}, {"tRCDWR", t.rcd_write},
         {"tRP", t.rp}, {"tRAS", t.ras}, {"tRC", t.rc}, {"tRRD_S", t.rrd_short}, {"tRRD_L", t.rrd_long}, {"tFAW", t.faw}, {"tAAD", t.aad},
         {"tCCD_S", t.ccd_short}, {"tCCD_L", t.ccd_long}, {"tCCD_S_WR", t.ccd_short_write},
         {"tCCD_L_WR", t.ccd_long_write}, {"tCCD_R", t.ccd_stack}, {"tWTR_S", t.wtr_short}, {"tWTR_L", t.wtr_long},
         {"tRTP", t.rtp}, {"tWR", t.wr}, {"tRTRS", t.rtrs}, {"tPPD", t.ppd}, {"tRFC", t.rfc},
         {"tRFCpb", t.rfc_bank}, {"tRREFD", t.rrefd}}};
    for (const Named& item : times) in_range(item, 0, int64_t{1} << 30, "timing, in ticks");
    in_range({"read to write", t.rtw}, 0, int64_t{1} << 30, "timing, in ticks");
    in_range({"tREFI", t.refi}, 0, int64_t{1} << 40, "timing, in ticks");
    if (t.burst < 1) refuse("a burst takes no time", "timing", "1 tick or more: zero would be infinite bandwidth");
    if (t.ccd_long < t.ccd_short) refuse("tCCD_L is shorter than tCCD_S", "timing", "tCCD_L >= tCCD_S");
    if (t.rrd_long < t.rrd_short) refuse("tRRD_L is shorter than tRRD_S", "timing", "tRRD_L >= tRRD_S");
    if (t.ras < t.rcd_read) refuse("tRAS is shorter than tRCD", "timing", "tRAS >= tRCD");
    if (t.rc < t.ras + t.rp) refuse("tRAS + tRP is longer than tRC", "timing", "tRC >= tRAS + tRP");
    const int64_t interval = refresh == Refresh::PerBank ? t.rfc_bank : t.rfc;
    if (refresh != Refresh::None && t.refi <= interval + t.rp + t.ras) {
        refuse("tREFI leaves no time between refreshes", "timing", "tREFI > tRFC + tRP + tRAS, or no refresh");
    }
}

// Otherwise one would always wait, and a stalled channel would never go on.
void check_refresh_rate(const DramConfig& config) {
    const Controller& c = config.controller;
    if (c.refresh == Refresh::None) return;
    const bool per_bank = c.refresh == Refresh::PerBank;
    const int64_t banks = per_bank ? config.organisation.banks() : 1;
    const int64_t interval = (config.timing.refi + banks - 1) / banks;
    const int64_t commands = config.organisation.units() * std::max<int64_t>(c.refresh_slots, 1) * c.align;
    if (interval > std::max(commands, per_bank ? config.timing.rrefd : 0)) return;
    refuse("refreshes fall due faster than they can be sent, every " + std::to_string(interval) + " ticks", "timing",
           "a longer tREFI, or no refresh");
}

void check_controller(const Controller& c, const Admission& a) {
    constexpr int64_t most = int64_t{1} << 20;
    const std::array<Named, 5> queues = {{{"read_queue", c.read_queue}, {"write_queue", c.write_queue},
                                          {"bank_queue", c.bank_queue}, {"write_high", c.write_high},
                                          {"write_idle", c.write_idle}}};
    for (const Named& item : queues) in_range(item, 1, most, "controller");
    const std::array<Named, 7> others = {{{"row_hit_cap", c.row_hit_cap}, {"write_low", c.write_low},
                                          {"slots.activate", c.act_slots}, {"slots.precharge", c.pre_slots},
                                          {"slots.refresh", c.refresh_slots}, {"slots.read", c.read_slots},
                                          {"slots.write", c.write_slots}}};
    for (const Named& item : others) in_range(item, 0, most, "controller");
    in_range({"delay", c.delay}, 0, int64_t{1} << 30, "controller");
    in_range({"command_align", c.align}, 1, 2, "controller");
    if (c.write_high > c.write_queue) refuse("write_high is above write_queue", "controller", "write_high <= write_queue");
    if (c.write_low >= c.write_high) refuse("write_low is not below write_high", "controller", "write_low < write_high");
    in_range({"depth", a.depth}, 1, int64_t{1} << 30, "admission");
    in_range({"rate", a.rate}, 1, int64_t{1} << 30, "admission");
    in_range({"channel_rate", a.channel_rate}, 0, int64_t{1} << 30, "admission");
    in_range({"run_ahead", a.run_ahead}, 0, int64_t{1} << 30, "admission");
}

}  // namespace

void validate(const DramConfig& config) {
    const Controller& c = config.controller;
    if (config.timing.aad > 0 && (c.split_bus || c.per_bank_queues)) {
        refuse("an activation in two commands (tAAD) is modelled for a shared command bus and shared queues only",
               "timing", "command_bus: shared and queues: shared, or no tAAD");
    }
    check_map(config);
    check_timing(config.timing, config.controller.refresh);
    check_controller(config.controller, config.admission);
    check_refresh_rate(config);
}

}  // namespace sparsecore::sim
