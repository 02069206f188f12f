// Layout 0 of each kind: the stored form, copied. A kernel folder only adds what runs it.
#pragma once

#include "cpu/layout.h"

namespace sparsecore::cpu {

Layout stored_layout(formats::Kind kind, void (*linear)(const formats::Resident&, const LinearCall&));

}  // namespace sparsecore::cpu
