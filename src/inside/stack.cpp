#include "inside/stack.hpp"

#include <algorithm>

namespace cooper::inside {

namespace {

// Of looking at names that may have to be hidden. What people make needs a few for each name.
constexpr std::uint64_t kMaxSteps = 2'000'000'000;
constexpr std::uint64_t kStepsPerPath = 1000;
constexpr std::uint64_t kFewSteps = 1'000'000;

bool earlier(const std::pair<Stack::Place, Stack::Place>& link, const Stack::Place& place) {
    return std::pair(link.first.layer, link.first.entry) < std::pair(place.layer, place.entry);
}

}  // namespace

Delta delta_of(const Entry& before, const Entry& after) {
    Delta delta;
    delta.kind = before.kind != after.kind;
    delta.content = before.content != after.content || before.size != after.size;
    // Modes of links mean nothing.
    delta.mode = before.mode != after.mode && after.kind != Kind::symlink;
    delta.owner = before.uid != after.uid || before.gid != after.gid;
    delta.time = before.mtime_s != after.mtime_s;
    delta.xattrs = before.xattrs != after.xattrs;
    return delta;
}

Stack::Stack(const Paths& paths, std::span<const std::shared_ptr<const Listing>> layers)
    : paths_(paths), layers_(layers), live_(paths.size()), facts_(layers.size()) {
    max_steps_ = std::min(kMaxSteps, (paths.size() + layers.size()) * kStepsPerPath + kFewSteps);
}

Result<Stack> Stack::of(const Paths& paths, std::span<const std::shared_ptr<const Listing>> layers, const Stop& stop) {
    Stack stack(paths, layers);
    for (std::uint32_t number = 0; number < layers.size(); ++number) {
        stack.names_.emplace_back(layers[number]->entries.size());
        TRY_CONTEXT(stack.lay(number, stop), "layer {}", number + 1);
    }
    return stack;
}

std::uint64_t Stack::seen_bytes() const {
    std::uint64_t total = 0;
    for (const auto& facts : facts_) total += facts.bytes - facts.wasted_bytes;
    return total;
}

Result<> Stack::check_steps(const Stop& stop) const {
    if (steps_ > max_steps_) {
        return fail(Code::resource_exhausted, Blame::user, "its entries replace each other too often");
    }
    return check_stop(stop);
}

const Entry* Stack::entry_at(Place place) const {
    if (!place.exists() || place.entry == kImplied) return nullptr;
    return &layers_[place.layer]->entries[place.entry];
}

bool Stack::is_directory(Paths::Id path) const {
    if (!live_[path].exists()) return path == Paths::kRoot;
    const Entry* found = entry(path);
    return found == nullptr || found->kind == Kind::directory;
}

const Entry* Stack::file_of(const Entry& entry) const {
    if (!entry.hard_link) return &entry;
    const Place own = live_[entry.path];
    const auto link = std::lower_bound(links_.begin(), links_.end(), own, earlier);
    if (link == links_.end() || link->first != own) return nullptr;
    return entry_at(link->second);
}

std::uint32_t Stack::names_of(const Entry& entry) const {
    Place place = live_[entry.path];
    if (entry.hard_link) {
        const auto link = std::lower_bound(links_.begin(), links_.end(), place, earlier);
        if (link == links_.end() || link->first != place) return 0;
        place = link->second;
    }
    return place.exists() && place.entry != kImplied ? names_[place.layer][place.entry] : 0;
}

// The bytes of a file that has lost a name.
void Stack::release(Paths::Id path, Place file, std::uint32_t by, const Entry* instead) {
    const Entry* entry = entry_at(file);
    if (entry == nullptr || entry->kind != Kind::file) return;
    std::uint32_t& names = names_[file.layer][file.entry];
    if (names == 0 || --names > 0 || entry->size == 0) return;
    Waste waste{.path = path, .layer = file.layer, .hidden_by = by, .bytes = entry->size};
    if (instead != nullptr && instead->kind == Kind::file && !instead->hard_link) {
        waste.delta = delta_of(*entry, *instead);
        waste.why = waste.delta.content ? Hidden::replaced : Hidden::stored_again;
        waste.mode_before = entry->mode;
        waste.mode_after = instead->mode;
    } else if (instead != nullptr) {
        waste.why = Hidden::replaced;
    }
    facts_[file.layer].wasted_bytes += entry->size;
    waste_.push_back(waste);
}

void Stack::hide(Paths::Id path, std::uint32_t by, const Entry* instead) {
    const Place old = live_[path];
    live_[path] = Place{};
    const Entry* entry = entry_at(old);
    if (entry == nullptr) return;
    if (!entry->hard_link) return release(path, old, by, instead);
    const auto link = std::lower_bound(links_.begin(), links_.end(), old, earlier);
    if (link != links_.end() && link->first == old) release(path, link->second, by, instead);
}

void Stack::hide_below(Paths::Id path, std::uint32_t by, std::uint32_t before) {
    std::vector<Paths::Id> todo{path};
    while (!todo.empty()) {
        const Paths::Id at = todo.back();
        todo.pop_back();
        for (Paths::Id child = paths_.first_child(at); child != Paths::kNone; child = paths_.next_sibling(child)) {
            ++steps_;
            if (!live_[child].exists()) continue;
            todo.push_back(child);
            if (live_[child].layer < before) hide(child, by, nullptr);
        }
    }
}

void Stack::put(Paths::Id path, Place place) {
    // Directories that the archive implies; what else was there gives way.
    std::vector<Paths::Id> parents;
    for (Paths::Id at = paths_.parent(path); at != Paths::kRoot && !is_directory(at); at = paths_.parent(at)) {
        parents.push_back(at);
    }
    for (auto parent = parents.rbegin(); parent != parents.rend(); ++parent) {
        if (live_[*parent].exists()) hide(*parent, place.layer, nullptr);
        live_[*parent] = {.layer = place.layer, .entry = kImplied};
    }
    const Entry* entry = entry_at(place);
    if (live_[path].exists()) {
        if (is_directory(path) && entry->kind != Kind::directory) hide_below(path, place.layer, place.layer + 1);
        hide(path, place.layer, entry);
    }
    live_[path] = place;
}

Result<> Stack::lay(std::uint32_t number, const Stop& stop) {
    const Listing& layer = *layers_[number];
    LayerFacts& facts = facts_[number];
    // Whiteouts hide what is below, wherever in the archive they stand.
    for (const Paths::Id path : layer.opaques) {
        hide_below(path, number, number);
        TRY(check_steps(stop));
    }
    for (const Paths::Id path : layer.whiteouts) {
        TRY(check_steps(stop));
        ++facts.whiteouts;
        hide_below(path, number, number);
        if (live_[path].exists()) hide(path, number, nullptr);
    }
    const std::size_t links_before = links_.size();
    std::vector<std::uint32_t> links;
    for (std::uint32_t i = 0; i < layer.entries.size(); ++i) {
        const Entry& entry = layer.entries[i];
        if (entry.kind == Kind::directory) {
            // Archives may leave the root out.
            facts.directories += entry.path == Paths::kRoot ? 0 : 1;
        } else if (entry.kind == Kind::symlink || entry.hard_link) {
            ++facts.links;
        } else {
            ++facts.files;
        }
        facts.bytes += entry.size;
        names_[number][i] = 1;
        put(entry.path, {.layer = number, .entry = i});
        TRY(check_steps(stop));
        if (entry.hard_link) links.push_back(i);
    }
    // Links may stand before what they name.
    for (const std::uint32_t i : links) {
        Place file = live_[layer.entries[i].link];
        for (int hops = 0; hops < 64; ++hops) {
            const Entry* target = entry_at(file);
            if (target == nullptr || !target->hard_link) break;
            const auto known = std::lower_bound(
                links_.begin(), links_.begin() + static_cast<std::ptrdiff_t>(links_before), file, earlier);
            if (file.layer < number) {
                file = known != links_.end() && known->first == file ? known->second : Place{};
            } else {
                file = live_[target->link];
            }
        }
        const Entry* target = entry_at(file);
        if (target == nullptr || target->kind != Kind::file || target->hard_link) continue;
        const Place own{.layer = number, .entry = i};
        links_.emplace_back(own, file);
        // A link that was itself replaced in this layer is no name any more.
        if (live_[layer.entries[i].path] == own) ++names_[file.layer][file.entry];
    }
    std::sort(links_.begin() + static_cast<std::ptrdiff_t>(links_before), links_.end(),
              [](const auto& a, const auto& b) {
                  return std::pair(a.first.layer, a.first.entry) < std::pair(b.first.layer, b.first.entry);
              });
    return {};
}

}  // namespace cooper::inside
