// A tree whose files may not be hard-linked from: copies of it share nothing with it.
#pragma once

#include "snapshot/tree.hpp"

namespace cooper::ops {

[[nodiscard]] snapshot::TreeRef copy_only(snapshot::TreeRef tree);

}  // namespace cooper::ops
