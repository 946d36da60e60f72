#include "inside/blame.hpp"

#include "base/text.hpp"
#include "codec/go_json.hpp"
#include "inside/shown.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <set>

namespace cooper::inside {

namespace {

constexpr int kMaxLinks = 40;

// The path with the links of its directories followed; the last component stays.
std::string resolve(const Paths& paths, const Stack& stack, const std::string& asked) {
    std::vector<std::string> todo = split(asked, '/');
    std::reverse(todo.begin(), todo.end());
    std::vector<std::string> done;
    for (int links = 0; !todo.empty();) {
        std::string part = std::move(todo.back());
        todo.pop_back();
        if (part.empty() || part == ".") continue;
        if (part == "..") {
            if (!done.empty()) done.pop_back();
            continue;
        }
        done.push_back(std::move(part));
        const bool last = std::ranges::all_of(todo, [](const auto& rest) { return rest.empty() || rest == "."; });
        if (last) continue;
        const auto path = paths.find(join(done, "/"));
        const Entry* entry = path ? stack.entry(*path) : nullptr;
        if (entry == nullptr || entry->kind != Kind::symlink || ++links > kMaxLinks) continue;
        const std::string target(stack.layer(stack.place(*path).layer).target_of(*entry));
        done.pop_back();
        if (target.starts_with('/')) done.clear();
        auto parts = split(target, '/');
        todo.insert(todo.end(), parts.rbegin(), parts.rend());
    }
    return "/" + join(done, "/");
}

class Historian {
public:
    Historian(const Listings& listings, Paths::Id path) : listings_(listings), path_(path) {
        for (Paths::Id at = path; at != Paths::kRoot; at = listings.paths.parent(at)) {
            if (at != path) above_.insert(at);
        }
        above_.insert(Paths::kRoot);
    }

    std::vector<BlameEvent> events() {
        for (std::uint32_t number = 0; number < listings_.layers.size(); ++number) look_at(number);
        return std::move(events_);
    }

private:
    void gone(std::uint32_t layer, const std::string& what) {
        if (!present_) return;
        present_.reset();
        events_.push_back({.layer = layer, .what = what, .state = std::nullopt});
    }

    void look_at(std::uint32_t number) {
        const Listing& layer = *listings_.layers[number];
        const auto is_above = [&](Paths::Id id) { return above_.contains(id); };
        for (const Paths::Id id : layer.whiteouts) {
            if (id == path_) gone(number, "removed");
            if (id != Paths::kRoot && is_above(id)) gone(number, "removed with " + shown(listings_.paths.text(id)));
        }
        for (const Paths::Id id : layer.opaques) {
            if (is_above(id)) gone(number, "removed with all that was in " + shown(listings_.paths.text(id)));
            if (id == path_ && present_) events_.push_back({number, "emptied", present_});
        }
        const Entry* found = nullptr;
        for (const Entry& entry : layer.entries) {
            if (entry.path == path_) found = &entry;
            if (entry.kind != Kind::directory && is_above(entry.path)) {
                gone(number, fmt::format("removed: {} became a {}", shown(listings_.paths.text(entry.path)),
                                         kind_name(entry.kind)));
                found = nullptr;
            }
        }
        if (found != nullptr) put(number, layer, *found);
    }

    // The file that a hard link is a name of; links may name links, before and after themselves.
    const Entry* named_by(std::uint32_t number, const Entry& link) const {
        const Entry* file = &link;
        for (int hops = 0; hops < kMaxLinks && file->hard_link; ++hops) {
            const Entry* next = nullptr;
            std::uint32_t below = number + 1;
            while (below-- > 0 && next == nullptr) {
                number = below;
                for (const Entry& other : listings_.layers[below]->entries) {
                    if (other.path == file->link && &other != file) next = &other;
                }
            }
            if (next == nullptr) break;
            file = next;
        }
        return file;
    }

    void put(std::uint32_t number, const Listing& layer, const Entry& entry) {
        const Entry* file = &entry;
        std::string name_of;
        if (entry.hard_link) {
            name_of = ", a further name of " + shown(listings_.paths.text(entry.link));
            file = named_by(number, entry);
        }
        const FileState state = state_of(*file, layer);
        if (!present_) {
            events_.push_back({number, "added: " + described(state) + name_of, state});
        } else {
            const Delta delta = delta_of(before_, *file);
            // Layers repeat the directories of what they change.
            if (!delta.any() && entry.kind == Kind::directory) return;
            events_.push_back({number,
                               delta.any() ? "changed: " + change_text(*present_, state, delta) + name_of
                                           : "stored again, unchanged" + name_of,
                               state});
        }
        before_ = *file;
        present_ = state;
    }

    const Listings& listings_;
    Paths::Id path_;
    std::set<Paths::Id> above_;
    std::optional<FileState> present_;
    Entry before_;
    std::vector<BlameEvent> events_;
};

std::vector<PathHistory::Below> below_of(const Listings& listings, const Stack& stack, Paths::Id directory) {
    const Paths& paths = listings.paths;
    std::vector<bool> inside(paths.size());
    for (Paths::Id id = 1; id < paths.size(); ++id) {
        const Paths::Id parent = paths.parent(id);
        inside[id] = parent == directory || inside[parent];
    }
    std::vector<PathHistory::Below> out;
    for (std::uint32_t number = 0; number < listings.layers.size(); ++number) {
        PathHistory::Below below{.layer = number};
        const Listing& layer = *listings.layers[number];
        for (std::uint32_t i = 0; i < layer.entries.size(); ++i) {
            const Entry& entry = layer.entries[i];
            if (!inside[entry.path] || entry.kind == Kind::directory) continue;
            ++below.files;
            below.bytes += entry.size;
            if (stack.place(entry.path) == Stack::Place{.layer = number, .entry = i}) below.seen_bytes += entry.size;
        }
        for (const Paths::Id id : layer.whiteouts) below.whiteouts += inside[id] ? 1 : 0;
        if (below.files + below.whiteouts > 0) out.push_back(below);
    }
    return out;
}

Error not_there(const Paths& paths, const Image& image, const std::string& path) {
    const Error error = fail(Code::not_found, Blame::user, "no layer of {} has {}", image.name, shown(path));
    // The nearest name in the deepest directory that is there.
    std::string parent = path;
    std::optional<Paths::Id> directory;
    std::string missing;
    while (!directory) {
        const std::size_t slash = parent.rfind('/');
        missing = parent.substr(slash + 1);
        parent.resize(slash);
        directory = paths.find(parent);
        if (parent.empty()) break;
    }
    if (!directory) return error;
    std::vector<std::string> names;
    constexpr std::size_t kMany = 10'000;
    for (Paths::Id id = paths.first_child(*directory); id != Paths::kNone && names.size() < kMany;
         id = paths.next_sibling(id)) {
        names.emplace_back(paths.name(id));
    }
    std::ranges::sort(names);
    const auto near = nearest(missing, names);
    return near ? error.with_hint("did you mean " + shown(parent + "/" + *near) + "?") : error;
}

std::string instruction_of(const PathHistory& blame, std::uint32_t layer, std::size_t limit) {
    const std::string& text = blame.instructions[layer].text;
    return text.empty() ? "(not told)" : shown(text, limit);
}

}  // namespace

Result<PathHistory> blame(const Image& image, const std::string& path, std::size_t threads, const Stop& stop) {
    const Listings listings = TRY(read_layers({&image}, {}, threads, stop));
    const Stack stack = TRY(Stack::of(listings.paths, listings.layers, stop));
    PathHistory out;
    out.asked = path.starts_with('/') ? path : "/" + path;
    out.path = resolve(listings.paths, stack, out.asked);
    auto id = listings.paths.find(out.path);
    if (!id) id = listings.paths.find(out.asked);
    if (!id) return not_there(listings.paths, image, out.path);
    out.path = listings.paths.text(*id);
    out.exists = stack.place(*id).exists() || *id == Paths::kRoot;
    out.events = Historian(listings, *id).events();
    if (stack.is_directory(*id) || listings.paths.first_child(*id) != Paths::kNone) {
        out.below = below_of(listings, stack, *id);
    }
    out.instructions = instructions_of(image.config, image.layers.size());
    if (out.events.empty() && out.below.empty()) return not_there(listings.paths, image, out.path);
    return out;
}

std::string to_text(const PathHistory& blame) {
    std::string text = shown(blame.path);
    if (!blame.exists) text += "  (not in the image)";
    text += '\n';
    for (const auto& event : blame.events) {
        text += fmt::format("  layer {}  {}\n           {}\n", event.layer + 1, event.what,
                            instruction_of(blame, event.layer, 160));
    }
    if (blame.events.empty()) text += "  no layer has an entry of its own for it\n";
    if (!blame.below.empty()) text += "Below it\n";
    for (const auto& below : blame.below) {
        text += fmt::format("  layer {}  {}, {}", below.layer + 1, counted(below.files, "file", "files"),
                            human_size(below.bytes));
        if (below.seen_bytes != below.bytes)
            text += fmt::format(", of which {} are seen", human_size(below.seen_bytes));
        if (below.whiteouts > 0) text += fmt::format(", {} removed", below.whiteouts);
        text += fmt::format("\n           {}\n", instruction_of(blame, below.layer, 160));
    }
    return text;
}

std::string to_json(const PathHistory& blame) {
    codec::GoJson json("  ");
    json.begin_object().field("path", blame.path).key("exists").boolean(blame.exists).key("events").begin_array();
    for (const auto& event : blame.events) {
        json.begin_object().key("layer").unsigned_integer(event.layer + 1);
        json.field("instruction", blame.instructions[event.layer].text).field("what", event.what);
        if (event.state) put_state(json.key("file"), *event.state);
        json.end_object();
    }
    json.end_array();
    if (!blame.below.empty()) {
        json.key("below").begin_array();
        for (const auto& below : blame.below) {
            json.begin_object().key("layer").unsigned_integer(below.layer + 1);
            json.field("instruction", blame.instructions[below.layer].text);
            json.key("files").unsigned_integer(below.files).key("whiteouts").unsigned_integer(below.whiteouts);
            json.key("bytes").unsigned_integer(below.bytes).key("seen_bytes").unsigned_integer(below.seen_bytes);
            json.end_object();
        }
        json.end_array();
    }
    json.end_object();
    return std::move(json).take() + "\n";
}

}  // namespace cooper::inside
