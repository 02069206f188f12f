// From spans to a problem: everything that is wrong with the arguments is an error here.
#pragma once

#include "cpu/attention/decode/decode.h"
#include "cpu/attention/decode/problem.h"

namespace sparsecore::cpu {

DecodeProblem decode_problem(const core::Span& q, const DecodeStore& store, const DecodeSeen& seen, const DecodeRule& rule,
                             const DecodeOutputs& outputs);

}  // namespace sparsecore::cpu
