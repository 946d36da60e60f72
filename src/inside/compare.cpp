#include "inside/compare.hpp"

#include "base/text.hpp"
#include "codec/go_json.hpp"
#include "inside/shown.hpp"

#include <algorithm>
#include <fmt/format.h>

namespace cooper::inside {

namespace {

// A side, with hard links as the files they name.
struct Side {
    const Paths& paths;
    Stack stack;

    // The entry whose metadata and bytes count; nullptr: nothing, or an implied directory.
    [[nodiscard]] const Entry* file(Paths::Id path) const {
        const Entry* entry = stack.entry(path);
        if (entry == nullptr) return nullptr;
        const Entry* target = stack.file_of(*entry);
        return target != nullptr ? target : entry;
    }
    [[nodiscard]] FileState state(Paths::Id path) const {
        const Entry* entry = file(path);
        if (entry == nullptr) return {.kind = Kind::directory, .mode = 0755};
        return state_of(*entry, stack.layer(stack.place(path).layer));
    }
};

std::string config_value(const std::optional<std::string>& value) {
    if (!value) return "not set";
    const bool json = value->starts_with('[') || value->starts_with('{');
    return json ? shown(*value, 200) : "\"" + shown(*value, 200) + "\"";
}

std::string_view kind_of_change(bool before, bool after) {
    return before && after ? "changed" : before ? "removed" : "added";
}

}  // namespace

Result<Differences> compare(const Image& before, const Image& after, std::size_t threads, const Stop& stop) {
    const Listings listings = TRY(read_layers({&before, &after}, {}, threads, stop));
    const std::span all(listings.layers);
    const std::size_t count = before.layers.size();
    const Side old{.paths = listings.paths, .stack = TRY(Stack::of(listings.paths, all.first(count), stop))};
    const Side now{.paths = listings.paths, .stack = TRY(Stack::of(listings.paths, all.subspan(count), stop))};
    Differences out;
    std::vector<std::pair<Paths::Id, Delta>> changed;
    for (Paths::Id path = 1; path < listings.paths.size(); ++path) {
        const bool had = old.stack.place(path).exists();
        const bool has = now.stack.place(path).exists();
        if (!had && !has) continue;
        Delta delta;
        if (had && has) {
            const Entry* a = old.file(path);
            const Entry* b = now.file(path);
            if (a == b) continue;
            if (a != nullptr && b != nullptr) {
                delta = delta_of(*a, *b);
            } else {
                // An implied directory is as good as any.
                delta.kind = (a != nullptr ? a : b)->kind != Kind::directory;
            }
            if (!delta.any()) continue;
            if (delta.only_time()) ++out.only_times;
        }
        changed.emplace_back(path, delta);
    }
    std::ranges::sort(changed, [&](const auto& a, const auto& b) { return listings.paths.before(a.first, b.first); });
    for (const auto& [path, delta] : changed) {
        FileChange change{.path = listings.paths.text(path), .before = {}, .after = {}, .delta = delta};
        if (old.stack.place(path).exists()) change.before = old.state(path);
        if (now.stack.place(path).exists()) change.after = now.state(path);
        out.files.push_back(std::move(change));
    }
    out.config = config_changes(before.config, after.config);
    out.size_before = old.stack.seen_bytes();
    out.size_after = now.stack.seen_bytes();
    out.layers_before = before.layers.size();
    out.layers_after = after.layers.size();
    while (out.shared_layers < std::min(out.layers_before, out.layers_after) &&
           before.layers[out.shared_layers].diff_id == after.layers[out.shared_layers].diff_id) {
        ++out.shared_layers;
    }
    return out;
}

std::string to_text(const Differences& differences, Times times) {
    std::string text;
    std::uint64_t added = 0;
    std::uint64_t removed = 0;
    std::uint64_t changed = 0;
    for (const auto& change : differences.files) {
        if (!change.before) {
            ++added;
            text += fmt::format("A {}  {}\n", shown(change.path), described(*change.after));
        } else if (!change.after) {
            ++removed;
            text += fmt::format("D {}  {}\n", shown(change.path), described(*change.before));
        } else if (times == Times::show || !change.delta.only_time()) {
            ++changed;
            text +=
                fmt::format("C {}  {}\n", shown(change.path), change_text(*change.before, *change.after, change.delta));
        }
    }
    for (const auto& change : differences.config) {
        text += fmt::format("  {}: {} → {}\n", shown(change.field), config_value(change.before),
                            config_value(change.after));
    }
    if (!differences.any()) return "no differences\n";
    if (!text.empty()) text += '\n';
    text += fmt::format("{} added, {} removed, {} changed; {}", added, removed, changed,
                        size_step(differences.size_before, differences.size_after));
    if (times == Times::ignore && differences.only_times > 0) {
        text += fmt::format("; {} differ in their times only (--times shows them)", differences.only_times);
    }
    text += fmt::format("\n{} and {} layers, of which the first {} are the same\n", differences.layers_before,
                        differences.layers_after, differences.shared_layers);
    return text;
}

std::string to_json(const Differences& differences) {
    codec::GoJson json("  ");
    json.begin_object();
    json.key("size_before").unsigned_integer(differences.size_before);
    json.key("size_after").unsigned_integer(differences.size_after);
    json.key("layers_before").unsigned_integer(differences.layers_before);
    json.key("layers_after").unsigned_integer(differences.layers_after);
    json.key("shared_layers").unsigned_integer(differences.shared_layers);
    json.key("files").begin_array();
    for (const auto& change : differences.files) {
        json.begin_object().field("path", change.path);
        json.field("change", kind_of_change(change.before.has_value(), change.after.has_value()));
        if (change.before && change.after) {
            json.key("differs").begin_array();
            const Delta& delta = change.delta;
            for (const auto& [set, name] :
                 {std::pair(delta.kind, "type"), std::pair(delta.content, "content"), std::pair(delta.mode, "mode"),
                  std::pair(delta.owner, "owner"), std::pair(delta.time, "time"), std::pair(delta.xattrs, "xattrs")}) {
                if (set) json.string(name);
            }
            json.end_array();
        }
        if (change.before) put_state(json.key("before"), *change.before);
        if (change.after) put_state(json.key("after"), *change.after);
        json.end_object();
    }
    json.end_array().key("config").begin_array();
    for (const auto& change : differences.config) {
        json.begin_object().field("field", change.field);
        json.field("change", kind_of_change(change.before.has_value(), change.after.has_value()));
        if (change.before) json.field("before", *change.before);
        if (change.after) json.field("after", *change.after);
        json.end_object();
    }
    json.end_array().end_object();
    return std::move(json).take() + "\n";
}

}  // namespace cooper::inside
