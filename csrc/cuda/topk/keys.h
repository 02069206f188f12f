// Elements as keys: unsigned integers that sort as the elements do, with NaN above all and -0 equal to +0.
//
// Where nearly all elements fall short of a bound they are tested as they are: for floats that is one instruction of the
// float pipe in place of the five integer ones that a key takes.
#pragma once

#include "cuda/common/element.h"

namespace sparsecore::cuda {

struct I64 {
    std::int64_t value;
};

SC_DEVICE std::uint32_t bits_of(F32 x) { return float_bits(x.value); }
SC_DEVICE std::uint32_t bits_of(F16 x) { return x.bits; }
SC_DEVICE std::uint32_t bits_of(BF16 x) { return x.bits; }
SC_DEVICE void set_bits(F32& x, std::uint32_t bits) { x.value = bits_to_float(bits); }
SC_DEVICE void set_bits(F16& x, std::uint32_t bits) { x.bits = static_cast<std::uint16_t>(bits); }
SC_DEVICE void set_bits(BF16& x, std::uint32_t bits) { x.bits = static_cast<std::uint16_t>(bits); }

// Of an element type: the Key, in which kBits bits are used and kLargest is the largest, and a Limit that elements are tested
// against: those beyond above(key) are all with a larger key, and may be more where key is no element's (key < kLargest);
// the element never() is beyond none.
template <class T>
struct Order;

// The key is the magnitude above the middle of the range, for negative numbers below it.
template <class T, int kSize, std::uint32_t kInfinity>
struct FloatOrder {
    using Key = std::uint32_t;
    using Limit = float;
    static constexpr int kBits = kSize;
    static constexpr Key kMiddle = Key{1} << (kSize - 1), kLargest = kMiddle | (kMiddle - 1);
    static constexpr std::uint32_t kQuietNan = kInfinity | (kInfinity & (~kInfinity + 1)) >> 1;

    SC_DEVICE static Key key(T x) {
        const std::uint32_t bits = bits_of(x), magnitude = bits & (kMiddle - 1);
        if (magnitude > kInfinity) return kLargest;
        return (bits & kMiddle) != 0 ? kMiddle - magnitude : kMiddle + magnitude;
    }
    // Zero becomes +0, NaN the quiet one.
    SC_DEVICE static T element(Key key) {
        T x;
        set_bits(x, key > kMiddle + kInfinity ? kQuietNan : key >= kMiddle ? key - kMiddle : kMiddle | (kMiddle - key));
        return x;
    }

    // Any number in the range of keys will do: those outside of the infinities are no element's.
    SC_DEVICE static Limit above(Key key) {
        constexpr Key kLow = kMiddle - kInfinity, kHigh = kMiddle + kInfinity;
        return to_float(element(key < kLow ? kLow : key > kHigh ? kHigh : key));
    }
    SC_DEVICE static T never() { return element(kMiddle - kInfinity); }
    SC_DEVICE static bool beyond(T x, Limit limit) { return !(to_float(x) <= limit); }  // so is NaN
};

template <>
struct Order<F32> : FloatOrder<F32, 32, 0x7f800000u> {};
template <>
struct Order<F16> : FloatOrder<F16, 16, 0x7c00u> {};
template <>
struct Order<BF16> : FloatOrder<BF16, 16, 0x7f80u> {};

template <>
struct Order<I64> {
    using Key = std::uint64_t;
    using Limit = Key;
    static constexpr int kBits = 64;
    static constexpr Key kSign = Key{1} << 63, kLargest = ~Key{0};

    SC_DEVICE static Key key(I64 x) { return static_cast<Key>(x.value) ^ kSign; }
    SC_DEVICE static I64 element(Key key) { return {static_cast<std::int64_t>(key ^ kSign)}; }
    SC_DEVICE static Limit above(Key key) { return key + 1; }
    SC_DEVICE static I64 never() { return element(0); }
    SC_DEVICE static bool beyond(I64 x, Limit limit) { return key(x) >= limit; }
};

// The key of a T as an element of its own.
template <class T>
struct KeyElement {
    typename Order<T>::Key key;
};

template <class T>
struct Order<KeyElement<T>> {
    using Key = typename Order<T>::Key;
    using Limit = Key;
    static constexpr int kBits = Order<T>::kBits;
    static constexpr Key kLargest = Order<T>::kLargest;

    SC_DEVICE static Key key(KeyElement<T> x) { return x.key; }
    SC_DEVICE static Limit above(Key key) { return key + 1; }
    SC_DEVICE static KeyElement<T> never() { return {0}; }
    SC_DEVICE static bool beyond(KeyElement<T> x, Limit limit) { return x.key >= limit; }
};

}  // namespace sparsecore::cuda
