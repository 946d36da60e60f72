#include "inside/paths.hpp"

#include "base/text.hpp"

#include <functional>

namespace cooper::inside {

namespace {

constexpr std::size_t kMaxPaths = 40'000'000;
constexpr std::size_t kMaxNames = std::size_t{2} << 30U;
constexpr std::size_t kMaxName = 255;
constexpr std::size_t kMaxPath = 4096;
constexpr std::size_t kFirstSlots = 1024;

}  // namespace

Paths::Paths() : nodes_(1), slots_(kFirstSlots, kNone) {}

std::size_t Paths::slot_of(Id parent, std::string_view name) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t slot = (std::hash<std::string_view>()(name) ^ (parent * std::size_t{0x9E3779B97F4A7C15})) & mask;
    while (slots_[slot] != kNone && (nodes_[slots_[slot]].parent != parent || this->name(slots_[slot]) != name)) {
        slot = (slot + 1) & mask;
    }
    return slot;
}

void Paths::grow() {
    slots_.assign(slots_.size() * 2, kNone);
    for (Id id = 1; id < nodes_.size(); ++id) slots_[slot_of(nodes_[id].parent, name(id))] = id;
}

std::optional<Paths::Id> Paths::find_child(Id parent, std::string_view name) const {
    const Id found = slots_[slot_of(parent, name)];
    if (found == kNone) return std::nullopt;
    return found;
}

Result<Paths::Id> Paths::add_child(Id parent, std::string_view name) {
    std::size_t slot = slot_of(parent, name);
    if (slots_[slot] != kNone) return slots_[slot];
    if (name.size() > kMaxName) return bad_input("a component of the name has {} bytes, more than 255", name.size());
    if (nodes_.size() >= kMaxPaths || names_.size() + name.size() > kMaxNames) {
        return fail(Code::resource_exhausted, Blame::user, "the image has more than {} names of files", nodes_.size());
    }
    if ((nodes_.size() + 1) * 3 > slots_.size() * 2) {
        grow();
        slot = slot_of(parent, name);
    }
    const Id id = static_cast<Id>(nodes_.size());
    nodes_.push_back({.parent = parent,
                      .next_sibling = nodes_[parent].first_child,
                      .name = static_cast<std::uint32_t>(names_.size()),
                      .length = static_cast<std::uint16_t>(name.size()),
                      .depth = static_cast<std::uint16_t>(nodes_[parent].depth + 1)});
    nodes_[parent].first_child = id;
    names_ += name;
    slots_[slot] = id;
    return id;
}

Result<Paths::Id> Paths::add(std::string_view name) {
    if (name.size() > kMaxPath) return bad_input("name of {} bytes is too long", name.size());
    if (name.find('\0') != std::string_view::npos) return bad_input("name contains a NUL byte");
    Id at = kRoot;
    for (std::size_t begin = 0; begin < name.size();) {
        const std::size_t end = std::min(name.find('/', begin), name.size());
        const std::string_view part = name.substr(begin, end - begin);
        begin = end + 1;
        if (part.empty() || part == ".") continue;
        if (part == "..") {
            if (at == kRoot) return bad_input("{} leads out of the archive", quoted(name));
            at = nodes_[at].parent;
            continue;
        }
        at = TRY(add_child(at, part));
    }
    return at;
}

std::optional<Paths::Id> Paths::find(std::string_view path) const {
    Id at = kRoot;
    for (const auto& part : split(path, '/')) {
        if (part.empty() || part == ".") continue;
        if (part == "..") {
            at = nodes_[at].parent;
            continue;
        }
        const auto next = find_child(at, part);
        if (!next) return std::nullopt;
        at = *next;
    }
    return at;
}

std::string Paths::text(Id id) const {
    if (id == kRoot) return "/";
    std::vector<Id> parts;
    std::size_t length = 0;
    for (Id at = id; at != kRoot; at = nodes_[at].parent) {
        parts.push_back(at);
        length += nodes_[at].length + 1U;
    }
    std::string text;
    text.reserve(length);
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
        text += '/';
        text += name(*part);
    }
    return text;
}

bool Paths::before(Id a, Id b) const {
    if (a == b) return false;
    const std::uint16_t depth_a = nodes_[a].depth;
    const std::uint16_t depth_b = nodes_[b].depth;
    while (nodes_[a].depth > nodes_[b].depth) a = nodes_[a].parent;
    while (nodes_[b].depth > nodes_[a].depth) b = nodes_[b].parent;
    if (a == b) return depth_a < depth_b;
    while (nodes_[a].parent != nodes_[b].parent) {
        a = nodes_[a].parent;
        b = nodes_[b].parent;
    }
    return name(a) < name(b);
}

}  // namespace cooper::inside
