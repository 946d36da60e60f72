// What the last boot of the machine left, when it may have ended without writing its files to the disk.
//
// Nothing is synced when a layer is committed. Instead it is "young" for an hour: the kernel writes what is that old
// many times over. The first who opens the store after the machine was started again looks at what was young then, and
// forgets what is not whole, so that it is made or fetched again. docs/store.md, "Crashes".
#pragma once

#include "store/store.hpp"

namespace cooper::store {

// In the transaction that commits the layer.
Result<> note_young(Database& database, LayerId id);
// Costs reading one small file when the machine has not been started again.
Result<> settle(Store& store, const sys::RootedDir& dir);

}  // namespace cooper::store
