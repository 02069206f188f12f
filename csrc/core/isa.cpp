#include "core/isa.h"

#include <atomic>
#include <cstdlib>

#include "core/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace sparsecore::core {

namespace {

struct Features {
    bool avx = false, avx2 = false, fma = false, f16c = false;
    bool bmi1 = false, bmi2 = false, lzcnt = false, popcnt = false;
    bool avx512f = false, avx512cd = false, avx512bw = false, avx512dq = false, avx512vl = false;
    bool avx512vbmi = false, avx512vbmi2 = false, avx512vnni = false, avx512bf16 = false, avx512fp16 = false;
    bool amx_tile = false, amx_bf16 = false, amx_int8 = false;
    bool os_ymm = false, os_zmm = false, os_tiles = false;
};

#if defined(__x86_64__)

uint64_t read_xcr0() {
    uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (static_cast<uint64_t>(high) << 32) | low;
}

// Linux grants the AMX tile state per process and on request (arch_prctl ARCH_REQ_XCOMP_PERM, XTILEDATA = 18).
bool request_tiles() {
#if defined(SYS_arch_prctl)
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return false;
#endif
}

Features detect() {
    Features f;
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return f;
    const bool osxsave = c & (1u << 27);
    f.fma = c & (1u << 12);
    f.avx = c & (1u << 28);
    f.f16c = c & (1u << 29);
    f.popcnt = c & (1u << 23);
    if (osxsave) {
        const uint64_t xcr0 = read_xcr0();
        f.os_ymm = (xcr0 & 0x6) == 0x6;
        f.os_zmm = (xcr0 & 0xe6) == 0xe6;
        f.os_tiles = (xcr0 & 0x60000) == 0x60000;
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        f.bmi1 = b & (1u << 3);
        f.avx2 = b & (1u << 5);
        f.bmi2 = b & (1u << 8);
        f.avx512f = b & (1u << 16);
        f.avx512dq = b & (1u << 17);
        f.avx512cd = b & (1u << 28);
        f.avx512bw = b & (1u << 30);
        f.avx512vl = b & (1u << 31);
        f.avx512vbmi = c & (1u << 1);
        f.avx512vbmi2 = c & (1u << 6);
        f.avx512vnni = c & (1u << 11);
        f.amx_bf16 = d & (1u << 22);
        f.avx512fp16 = d & (1u << 23);
        f.amx_tile = d & (1u << 24);
        f.amx_int8 = d & (1u << 25);
        const unsigned subleaves = a;
        if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) f.avx512bf16 = a & (1u << 5);
    }
    if (__get_cpuid(0x80000001u, &a, &b, &c, &d)) f.lzcnt = c & (1u << 5);
    if (f.amx_tile && f.os_tiles) f.os_tiles = request_tiles();
    return f;
}

#else

Features detect() { return {}; }

#endif

const Features& features() {
    static const Features f = detect();
    return f;
}

bool machine_has(Isa isa) {
    const Features& f = features();
    const bool avx2 = f.avx && f.avx2 && f.fma && f.f16c && f.bmi1 && f.bmi2 && f.lzcnt && f.popcnt && f.os_ymm;
    const bool avx512 = avx2 && f.os_zmm && f.avx512f && f.avx512cd && f.avx512bw && f.avx512dq && f.avx512vl &&
                        f.avx512vbmi && f.avx512vbmi2 && f.avx512vnni;
    switch (isa) {
        case Isa::Portable: return true;
        case Isa::Avx2: return avx2;
        case Isa::Avx512: return avx512;
#if defined(SPARSECORE_EMULATE_TILES)
        case Isa::Amx: return avx512 && f.avx512bf16;
#else
        case Isa::Amx: return avx512 && f.avx512bf16 && f.amx_tile && f.amx_bf16 && f.amx_int8 && f.os_tiles;
#endif
    }
    return false;
}

std::string names(const std::vector<Isa>& isas) {
    std::string text;
    for (Isa isa : isas) text += (text.empty() ? "" : ", ") + std::string(isa_name(isa));
    return text;
}

Isa available_or_throw(const std::string& name, const char* where) {
    const Isa isa = parse_isa(name);
    if (!isa_available(isa)) {
        const auto compiled = compiled_isas();
        bool built = false;
        for (Isa c : compiled) built = built || c == isa;
        throw Error("IsaError", "instruction set '" + name + "' is not available " +
                                    (built ? "on this machine" : "in this build"),
                    where, names(available_isas()));
    }
    return isa;
}

Isa default_isa() {
    const char* forced = std::getenv("SPARSECORE_FORCE_ISA");
    if (forced != nullptr && *forced != '\0') return available_or_throw(forced, "SPARSECORE_FORCE_ISA");
    return available_isas().back();
}

constexpr int kUndecided = -1;
std::atomic<int> chosen{kUndecided};

}  // namespace

const char* isa_name(Isa isa) {
    constexpr const char* text[] = {"portable", "avx2", "avx512", "amx"};
    return text[static_cast<uint32_t>(isa)];
}

Isa parse_isa(const std::string& name) {
    for (Isa isa : {Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Amx}) {
        if (name == isa_name(isa)) return isa;
    }
    throw Error("IsaError", "unknown instruction set '" + name + "'", "", "one of portable, avx2, avx512, amx",
                "available here: " + names(available_isas()));
}

std::vector<Isa> compiled_isas() {
    std::vector<Isa> isas{Isa::Portable};
#if defined(SPARSECORE_HAVE_AVX2)
    isas.push_back(Isa::Avx2);
#endif
#if defined(SPARSECORE_HAVE_AVX512)
    isas.push_back(Isa::Avx512);
#endif
#if defined(SPARSECORE_HAVE_AMX)
    isas.push_back(Isa::Amx);
#endif
    return isas;
}

std::vector<Isa> available_isas() {
    std::vector<Isa> isas;
    for (Isa isa : compiled_isas()) {
        if (machine_has(isa)) isas.push_back(isa);
    }
    return isas;
}

bool isa_available(Isa isa) {
    for (Isa other : available_isas()) {
        if (other == isa) return true;
    }
    return false;
}

Isa runtime_isa() {
    int isa = chosen.load(std::memory_order_relaxed);
    if (isa == kUndecided) {
        isa = static_cast<int>(default_isa());
        chosen.store(isa, std::memory_order_relaxed);
    }
    return static_cast<Isa>(isa);
}

void set_isa(const std::string& name) {
    const Isa isa = name == "auto" ? default_isa() : available_or_throw(name, "set_isa");
    chosen.store(static_cast<int>(isa), std::memory_order_relaxed);
}

bool cpu_has(const std::string& feature) {
    static const auto all = cpu_features();
    for (const auto& [name, present] : all) {
        if (name == feature) return present && (name.rfind("avx512", 0) != 0 || features().os_zmm);
    }
    return false;
}

std::vector<std::pair<std::string, bool>> cpu_features() {
    const Features& f = features();
    return {{"avx", f.avx}, {"avx2", f.avx2}, {"fma", f.fma}, {"f16c", f.f16c},
            {"bmi1", f.bmi1}, {"bmi2", f.bmi2}, {"lzcnt", f.lzcnt}, {"popcnt", f.popcnt},
            {"avx512f", f.avx512f}, {"avx512cd", f.avx512cd}, {"avx512bw", f.avx512bw}, {"avx512dq", f.avx512dq},
            {"avx512vl", f.avx512vl}, {"avx512vbmi", f.avx512vbmi}, {"avx512vbmi2", f.avx512vbmi2},
            {"avx512vnni", f.avx512vnni}, {"avx512bf16", f.avx512bf16}, {"avx512fp16", f.avx512fp16},
            {"amx_tile", f.amx_tile}, {"amx_bf16", f.amx_bf16}, {"amx_int8", f.amx_int8},
            {"os_ymm", f.os_ymm}, {"os_zmm", f.os_zmm}, {"os_tiles", f.os_tiles}};
}

}  // namespace sparsecore::core
