#include "exporter/squash.hpp"

#include "base/text.hpp"
#include "codec/rfc3339.hpp"
#include "codec/sha256.hpp"
#include "exporter/detail/layer_stream.hpp"
#include "exporter/detail/stage_tree.hpp"
#include "inside/stack.hpp"
#include "layer/difference.hpp"
#include "snapshot/chain_view.hpp"

#include <algorithm>
#include <map>

namespace cooper::exporter {

namespace {

using snapshot::DirectoryRef;
using snapshot::Kind;
using snapshot::Node;

Result<std::vector<snapshot::LayerDir>> open_dirs(const store::Store& store, std::span<const store::LayerId> layers) {
    std::vector<std::pair<std::int64_t, std::string>> paths;
    for (const store::LayerId id : layers) paths.emplace_back(id, store.layer_path(id));
    return snapshot::open_layers(paths);
}

Result<snapshot::TreeRef> tree_of(const store::Store& store, std::span<const store::LayerId> layers) {
    if (layers.empty()) return snapshot::empty_tree();
    return snapshot::TreeRef(
        TRY(snapshot::ChainView::create(TRY(open_dirs(store, layers)), snapshot::ChainView::TopLayer::committed)));
}

class Squasher {
public:
    Squasher(store::Store& store, const store::Chain& chain, std::size_t base, std::size_t threads, const Stop& stop)
        : store_(store), chain_(chain), base_(base), threads_(threads), stop_(stop) {}

    Result<Squashed> run() {
        inside::Image image{.name = "the result"};
        for (std::size_t i = base_; i < chain_.layers.size(); ++i) {
            image.layers.push_back({.diff_id = {},
                                    .blob = {},
                                    .packed_size = {},
                                    .open = [path = store_.layer_path(chain_.layers[i])](
                                                const Stop& stop) -> Result<std::unique_ptr<ByteSource>> {
                                        return detail::read_layer_stream(path, layer::DiffOptions{}, stop);
                                    }});
        }
        plan_->listings = TRY(inside::read_layers({&image}, {}, threads_, stop_));
        plan_->stack.emplace(TRY(inside::Stack::of(plan_->listings.paths, plan_->listings.layers, stop_)));
        Squashed out;
        std::vector<bool> dirty(image.layers.size());
        for (const auto& waste : plan_->stack->waste()) {
            dirty[waste.layer] = dirty[waste.hidden_by] = true;
            out.saved_bytes += waste.bytes;
        }
        if (out.saved_bytes == 0) {
            out.chain = chain_;
            return out;
        }
        find_homes();
        find_gone();
        const std::span all(chain_.layers);
        plan_->result = TRY(tree_of(store_, all));
        plan_->base = TRY(tree_of(store_, all.first(base_)));
        out.chain.layers.assign(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(base_));
        for (std::size_t i = 0; i < dirty.size(); ++i) {
            if (!dirty[i]) {
                out.chain.layers.push_back(all[base_ + i]);
            } else if (!TRY(rewrite(i, out))) {
                out.emptied.push_back(base_ + i);
            }
        }
        out.tree = TRY(hash_tree(*plan_->result, stop_));
        const Digest now = TRY(hash_tree(*TRY(tree_of(store_, out.chain.layers)), stop_));
        if (now == out.tree) return out;
        // Rather the layers as they are than other files: links that the base has as two equal files, for one.
        out = Squashed{};
        out.chain = chain_;
        out.gave_up = true;
        return out;
    }

private:
    // The first layer that has the bytes of a file which later ones stored again.
    void find_homes() {
        const inside::Stack& stack = *plan_->stack;
        const inside::Paths& paths = plan_->listings.paths;
        std::map<std::pair<inside::Paths::Id, std::uint32_t>, std::uint32_t> again;
        for (const auto& waste : stack.waste()) {
            if (waste.why == inside::Hidden::stored_again) again[{waste.path, waste.hidden_by}] = waste.layer;
        }
        plan_->homes.assign(paths.size(), detail::StagePlan::kNowhere);
        for (auto id = static_cast<inside::Paths::Id>(paths.size()); id-- > 0;) {
            const auto place = stack.place(id);
            if (!place.exists()) continue;
            std::uint32_t home = place.layer;
            const inside::Entry* entry = stack.entry(id);
            const bool alone = entry != nullptr && entry->kind == inside::Kind::file && stack.names_of(*entry) == 1;
            for (auto step = again.find({id, home}); alone && step != again.end() && step->second < home;
                 step = again.find({id, home})) {
                home = step->second;
            }
            // Children come after their parents; a directory is there before what it holds.
            plan_->homes[id] = std::min(plan_->homes[id], home);
            auto& parent = plan_->homes[paths.parent(id)];
            parent = std::min(parent, plan_->homes[id]);
        }
    }

    // When what the base has is removed: by itself, or with a directory above it.
    void find_gone() {
        const inside::Paths& paths = plan_->listings.paths;
        plan_->gone.assign(paths.size(), detail::StagePlan::kNowhere);
        plan_->put.assign(paths.size(), detail::StagePlan::kNowhere);
        plan_->gone_below.assign(paths.size(), detail::StagePlan::kNowhere);
        for (auto number = static_cast<std::uint32_t>(plan_->listings.layers.size()); number-- > 0;) {
            const inside::Listing& layer = *plan_->listings.layers[number];
            for (const auto id : layer.whiteouts) plan_->gone[id] = number;
            for (const auto id : layer.opaques) plan_->gone_below[id] = number;
            for (const auto& entry : layer.entries) {
                plan_->put[entry.path] = number;
                if (entry.kind != inside::Kind::directory) plan_->gone_below[entry.path] = number;
            }
        }
        for (inside::Paths::Id id = 1; id < paths.size(); ++id) {
            plan_->gone[id] = std::min(plan_->gone[id], plan_->gone_below[paths.parent(id)]);
            plan_->gone_below[id] = std::min(plan_->gone_below[id], plan_->gone[id]);
        }
    }

    // False when nothing is left of it.
    Result<bool> rewrite(std::size_t number, Squashed& out) {
        TRY(check_stop(stop_));
        const store::LayerRecord before = TRY(store_.layer(chain_.layers[base_ + number]));
        auto dirs = TRY(open_dirs(store_, out.chain.layers));
        const snapshot::TreeRef lower = TRY(tree_of(store_, out.chain.layers));
        store::LayerDraft draft = TRY(store_.begin_layer());
        const auto builder = TRY(snapshot::LayerBuilder::create(dirs, TRY(draft.open())));
        TRY(layer::put_difference(lower, detail::stage_tree(plan_, static_cast<std::uint32_t>(number)), *builder,
                                  stop_));
        TRY(builder->finish());
        if (TRY(is_empty(draft, *lower))) return false;
        store::LayerInfo info;
        info.description = before.info.description;
        info.size_bytes = builder->written().bytes;
        out.chain.layers.push_back(TRY(std::move(draft).commit(info)));
        ++out.rewritten;
        return true;
    }

    static Result<bool> is_empty(const store::LayerDraft& draft, const snapshot::Tree& lower) {
        std::vector<snapshot::LayerDir> own;
        own.push_back({0, TRY(draft.open())});
        const auto names = TRY(sys::list_dir(own.front().dir.fd()));
        if (!names.empty()) return false;
        const auto view = TRY(snapshot::ChainView::create(std::move(own), snapshot::ChainView::TopLayer::in_work));
        const DirectoryRef mine = TRY(view->root());
        const DirectoryRef below = TRY(lower.root());
        const Node& a = mine->self();
        const Node& b = below->self();
        return a.mode == b.mode && a.uid == b.uid && a.gid == b.gid && a.mtime_ns == b.mtime_ns &&
               TRY(mine->self_xattrs()) == TRY(below->self_xattrs());
    }

    store::Store& store_;
    const store::Chain& chain_;
    std::size_t base_;
    std::size_t threads_;
    const Stop& stop_;
    std::shared_ptr<detail::StagePlan> plan_ = std::make_shared<detail::StagePlan>();
};

// "1,2,7 4,6 1234 2 0 sha256:…": chain, emptied, saved bytes, rewritten, gave up, tree.
std::string fact_text(const Squashed& squashed) {
    std::vector<std::string> emptied;
    for (const std::size_t number : squashed.emptied) emptied.push_back(std::to_string(number));
    return fmt::format("{} {} {} {} {} {}", squashed.chain.to_string(), join(emptied, ","), squashed.saved_bytes,
                       squashed.rewritten, squashed.gave_up ? 1 : 0, squashed.tree.to_string());
}

std::optional<Squashed> parse_fact(const std::string& text) {
    const auto words = split(text, ' ');
    if (words.size() != 6) return std::nullopt;
    Squashed out;
    auto chain = store::Chain::parse(words[0]);
    const auto saved = parse_int(words[2]);
    const auto rewritten = parse_int(words[3]);
    if (!chain || !saved || !rewritten) return std::nullopt;
    out.chain = std::move(*chain);
    for (const auto& one : split(words[1], ',')) {
        const auto number = parse_int(one);
        if (number && *number >= 0) out.emptied.push_back(static_cast<std::size_t>(*number));
    }
    out.saved_bytes = static_cast<std::uint64_t>(*saved);
    out.gave_up = words[4] == "1";
    out.rewritten = static_cast<std::size_t>(*rewritten);
    if (auto tree = Digest::parse(words[5])) out.tree = *tree;
    return out;
}

class TreeHasher {
public:
    explicit TreeHasher(const Stop& stop) : stop_(stop) {}

    Result<Digest> run(const snapshot::Tree& tree) {
        const DirectoryRef root = TRY(tree.root());
        add("/", root->self(), TRY(root->self_xattrs()));
        std::vector<std::pair<std::string, DirectoryRef>> todo{{"", root}};
        while (!todo.empty()) {
            TRY(check_stop(stop_));
            const auto [path, directory] = std::move(todo.back());
            todo.pop_back();
            for (const auto& entry : TRY(directory->list())) {
                const std::string below = path + "/" + entry.name;
                const Node node = TRY(directory->stat(entry));
                TRY_CONTEXT(add_entry(below, *directory, entry.name, node), "{}", below);
                if (node.kind == Kind::directory) todo.emplace_back(below, TRY(directory->open_dir(entry.name)));
            }
        }
        return hash_.finish();
    }

private:
    void put(std::string_view text) {
        hash_.update(fmt::format("{}:", text.size()));
        hash_.update(text);
    }

    void add(const std::string& path, const Node& node, const snapshot::Xattrs& xattrs) {
        put(path);
        hash_.update(fmt::format("{} {:o} {}:{} {} {};", static_cast<int>(node.kind), node.mode, node.uid, node.gid,
                                 node.mtime_ns, node.kind == Kind::directory ? 0 : node.rdev));
        for (const auto& [name, value] : xattrs) {
            put(name);
            put(value);
        }
    }

    Result<> add_entry(const std::string& path, const snapshot::Directory& directory, const std::string& name,
                       const Node& node) {
        add(path, node, TRY(directory.xattrs(name, node)));
        if (node.kind == Kind::symlink) put(TRY(directory.read_link(name, node)));
        if (node.kind == Kind::directory || node.kind == Kind::symlink) return {};
        const auto key = std::pair(directory.link_domain(node), node.inode);
        if (node.links > 1) {
            const auto [first, fresh] = first_names_.try_emplace(key, path);
            put(first->second);
            if (!fresh) return {};
        } else {
            put(path);
        }
        if (node.kind != Kind::file) return {};
        const sys::Fd file = TRY(directory.open_file(name, node));
        codec::Sha256 content;
        while (const std::size_t got = TRY(sys::read_some(file.get(), buffer_))) {
            TRY(check_stop(stop_));
            content.update(std::span(buffer_).first(got));
        }
        put(content.finish().to_string());
        return {};
    }

    const Stop& stop_;
    codec::Sha256 hash_;
    Bytes buffer_ = Bytes(std::size_t{256} << 10U);
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::string> first_names_;
};

}  // namespace

Result<Digest> hash_tree(const snapshot::Tree& tree, const Stop& stop) { return TreeHasher(stop).run(tree); }

Result<Squashed> squash_waste(store::Store& store, const store::Chain& chain, std::size_t base_layers,
                              std::size_t threads, const Stop& stop) {
    const std::size_t base = std::min(base_layers, chain.layers.size());
    const std::string key = fmt::format("squash-waste:{}:{}", base, chain.to_string());
    if (const auto known = TRY(store.fact(key))) {
        auto squashed = parse_fact(known->value);
        if (squashed && TRY(store.hold(squashed->chain))) return std::move(*squashed);
    }
    Squashed squashed = TRY_CONTEXT(Squasher(store, chain, base, threads, stop).run(), "squash-waste");
    TRY(store.set_fact(key, fact_text(squashed)));
    return squashed;
}

Result<> squash_history(store::Store& store, const store::Chain& before, const Squashed& squashed,
                        oci::ImageConfig& config) {
    const auto with_layer =
        static_cast<std::size_t>(std::ranges::count(config.history, false, &oci::HistoryEntry::empty_layer));
    // A history that does not fit its layers says nothing of them.
    if (with_layer != before.layers.size()) return {};
    std::size_t number = 0;
    for (auto& entry : config.history) {
        if (entry.empty_layer) continue;
        if (!entry.created) entry.created = format_rfc3339(TRY(store.layer(before.layers[number])).created);
        entry.empty_layer = std::ranges::find(squashed.emptied, number) != squashed.emptied.end();
        ++number;
    }
    return {};
}

}  // namespace cooper::exporter
