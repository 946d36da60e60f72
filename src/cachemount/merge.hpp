// Which version of a file stays when a mount here and one elsewhere have both changed since they last met.
//
// A side that has not changed a file takes what the other has made of it, be it that it is gone. When both have, the
// later one stays; a change is stronger than a removal. Sides that have never met lose nothing: what only one has, both
// have afterwards. Pure.
#pragma once

#include "cachemount/tree.hpp"

namespace cooper::cachemount {

// What must be said to those who know `head`, so that they know what is here.
[[nodiscard]] Entries changes_for_head(const LocalTree& local, const Synced* synced, const Entries& head);

struct LocalChanges {
    std::vector<std::string> write;   // as head has it; parents before what is in them
    std::vector<std::string> remove;  // what is in a directory before the directory
};
// local may be unread: then files are told apart by what can be seen from outside.
[[nodiscard]] LocalChanges changes_for_local(const LocalTree& local, const Synced* synced, const Entries& head);

// What both have, to be remembered.
[[nodiscard]] std::map<std::string, Synced::Known> in_both(const LocalTree& local, const Entries& head);

}  // namespace cooper::cachemount
