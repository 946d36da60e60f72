// Paths: every name of a file that any layer has, once. Parents come before their children. About 40 bytes and the
// name's own each, so that an image of a million files is held in memory.
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::inside {

class Paths {
public:
    using Id = std::uint32_t;
    static constexpr Id kRoot = 0;
    static constexpr Id kNone = UINT32_MAX;

    Paths();
    // The path of an entry of an archive ("./a//b/"). Names that climb above the root, have a NUL or are too long are
    // bad input; too many of them resource_exhausted.
    [[nodiscard]] Result<Id> add(std::string_view name);
    [[nodiscard]] Result<Id> add_child(Id parent, std::string_view name);
    // "/a/b" or "a/b", clean.
    [[nodiscard]] std::optional<Id> find(std::string_view path) const;
    [[nodiscard]] std::optional<Id> find_child(Id parent, std::string_view name) const;

    // "/a/b".
    [[nodiscard]] std::string text(Id id) const;
    [[nodiscard]] std::string_view name(Id id) const {
        return std::string_view(names_).substr(nodes_[id].name, nodes_[id].length);
    }
    [[nodiscard]] Id parent(Id id) const { return nodes_[id].parent; }  // of the root: the root
    [[nodiscard]] Id first_child(Id id) const { return nodes_[id].first_child; }
    [[nodiscard]] Id next_sibling(Id id) const { return nodes_[id].next_sibling; }
    [[nodiscard]] std::size_t size() const { return nodes_.size(); }
    // In the order in which trees are walked: names compared byte by byte, parents first.
    [[nodiscard]] bool before(Id a, Id b) const;

private:
    struct Node {
        Id parent = kRoot;
        Id first_child = kNone;
        Id next_sibling = kNone;
        std::uint32_t name = 0;
        std::uint16_t length = 0;
        std::uint16_t depth = 0;
    };
    [[nodiscard]] std::size_t slot_of(Id parent, std::string_view name) const;
    void grow();

    std::vector<Node> nodes_;
    std::string names_;
    std::vector<Id> slots_;  // open addressing; a power of two
};

}  // namespace cooper::inside
