#include "remotecache/key_records.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace cooper::remotecache {

namespace {

constexpr std::size_t kMaxNodes = 1 << 20;

// "" for none: half as many bytes in the database as with the algorithm's name.
std::string selector_text(const Digest& selector) { return selector.empty() ? std::string() : selector.hex(); }

struct Link {
    std::uint32_t input = 0;
    Digest op;
    Digest selector;
};

// The other way of link_text.
std::optional<Link> parse_link(const std::string& text) {
    const auto words = split(text, ' ');
    if (words.size() != 3) return std::nullopt;
    const auto input = parse_int(words[0]);
    const auto op = Digest::parse(words[1]);
    if (!input || *input < 0 || *input > 10'000 || !op) return std::nullopt;
    Link link{.input = static_cast<std::uint32_t>(*input), .op = *op};
    if (!words[2].empty()) {
        const auto selector = Digest::parse(fmt::format("sha256:{}", words[2]));
        if (!selector) return std::nullopt;
        link.selector = *selector;
    }
    return link;
}

class Collector {
public:
    Collector(store::Store& store, const std::vector<store::Chain>& final_chains, CacheMode mode)
        : store_(store), final_chains_(final_chains), mode_(mode) {}

    Result<Collected> collect(const std::vector<solver::SharedKey>& final_keys) {
        gather(final_keys);
        for (const auto& key : final_keys) {
            if (key && !key->ephemeral) TRY(visit(key->id));
        }
        return std::move(out_);
    }

private:
    // What this build knows of a key.
    struct Known {
        Digest op;
        std::vector<std::vector<std::pair<Digest, solver::KeyId>>> inputs;
    };

    // All keys behind the final ones.
    void gather(const std::vector<solver::SharedKey>& final_keys) {
        std::set<const solver::CacheKey*> seen;
        std::vector<const solver::CacheKey*> pending;
        const auto push = [&](const solver::SharedKey& key) {
            if (key && seen.insert(key.get()).second) pending.push_back(key.get());
        };
        for (const auto& key : final_keys) push(key);
        while (!pending.empty()) {
            const solver::CacheKey& key = *pending.back();
            pending.pop_back();
            for (const auto& deps : key.inputs) {
                for (const auto& dep : deps) {
                    if (dep.key && !dep.key->local) push(dep.key);
                }
            }
            if (key.ephemeral) continue;
            const auto op = Digest::parse(solver::root_key_id(key.digest, key.output));
            if (!op) continue;
            Known& known = known_[key.id];
            known.op = *op;
            if (known.inputs.size() < key.inputs.size()) known.inputs.resize(key.inputs.size());
            for (std::size_t i = 0; i < key.inputs.size(); ++i) {
                for (const auto& dep : key.inputs[i]) {
                    if (!dep.key->ephemeral && !dep.key->local) known.inputs[i].emplace_back(dep.selector, dep.key->id);
                }
            }
        }
    }

    // What else the store knows a key by: keys of this build, and keys that have no inputs (contents).
    Result<> add_stored_links(const solver::KeyId& id, Known& known) {
        for (const auto& row : TRY(store_.cache_links_to(id))) {
            const auto link = parse_link(row.link);
            if (!link || link->op != known.op) continue;
            if (!known_.contains(row.from) &&
                (!Digest::parse(row.from) || !TRY(store_.cache_links_to(row.from)).empty()))
                continue;
            if (known.inputs.size() <= link->input) known.inputs.resize(link->input + 1);
            auto& ways = known.inputs[link->input];
            const std::pair way(link->selector, row.from);
            if (std::ranges::find(ways, way) == ways.end()) ways.push_back(way);
        }
        return {};
    }

    // The place of a key's node, made together with all below it. Links that lead round are left out: one of the
    // keys on the way has another link, or it would never have been found.
    Result<std::optional<std::size_t>> visit(const solver::KeyId& id) {
        struct Frame {
            solver::KeyId id;
            Known known;
            std::vector<std::vector<CacheNode::Input>> inputs;
            std::size_t input = 0;
            std::size_t way = 0;
        };
        std::vector<Frame> stack;
        const auto enter = [&](const solver::KeyId& key) -> Result<> {
            if (places_.contains(key)) return {};
            if (places_.size() >= kMaxNodes)
                return fail(Code::resource_exhausted, Blame::user, "more than {} cache records", kMaxNodes);
            places_[key] = std::nullopt;  // on the way
            Frame frame{.id = key, .known = {}, .inputs = {}};
            if (const auto found = known_.find(key); found != known_.end()) {
                frame.known = found->second;
            } else {
                frame.known.op = TRY(Digest::parse(key));  // the key of a content
            }
            TRY(add_stored_links(key, frame.known));
            frame.inputs.resize(frame.known.inputs.size());
            stack.push_back(std::move(frame));
            return {};
        };
        TRY(enter(id));
        while (!stack.empty()) {
            Frame& frame = stack.back();
            if (frame.input == frame.known.inputs.size()) {
                TRY(finish(frame.id, frame.known.op, std::move(frame.inputs)));
                stack.pop_back();
                continue;
            }
            const auto& ways = frame.known.inputs[frame.input];
            if (frame.way == ways.size()) {
                ++frame.input;
                frame.way = 0;
                continue;
            }
            const auto [selector, from] = ways[frame.way];
            const auto found = places_.find(from);
            if (found == places_.end()) {
                TRY(enter(from));  // and come back
                continue;
            }
            ++frame.way;
            if (found->second) frame.inputs[frame.input].push_back({selector, *found->second});
        }
        return places_[id];
    }

    Result<> finish(const solver::KeyId& id, const Digest& op, std::vector<std::vector<CacheNode::Input>> inputs) {
        // An input that nobody could ever find makes the record useless; so are all that need it.
        if (std::ranges::any_of(inputs, [](const auto& ways) { return ways.empty(); })) return {};
        CacheNode node{.op = op, .inputs = std::move(inputs), .results = {}};
        std::optional<store::CacheResultRow> newest;
        for (auto& row : TRY(store_.cache_results(id))) {
            if (!newest || row.created > newest->created) {
                const auto chain = store::Chain::parse(row.result == "scratch" ? "" : row.result);
                if (chain && !chain->empty() && wanted(*chain) && TRY(store_.exists(*chain))) newest = std::move(row);
            }
        }
        if (newest) {
            CacheNode::Result result{.layers = {}, .created = newest->created};
            for (const store::LayerId layer : TRY(store::Chain::parse(newest->result)).layers) {
                const auto [entry, fresh] = layers_.try_emplace(layer, out_.layers.size());
                if (fresh) {
                    out_.layers.push_back(layer);
                    out_.graph.layers.emplace_back();
                }
                result.layers.push_back(entry->second);
            }
            node.results.push_back(std::move(result));
        }
        places_[id] = out_.graph.nodes.size();
        out_.graph.nodes.push_back(std::move(node));
        return {};
    }

    // With CacheMode::min nothing travels that the result does not have already.
    [[nodiscard]] bool wanted(const store::Chain& chain) const {
        if (mode_ == CacheMode::max) return true;
        return std::ranges::any_of(final_chains_, [&](const store::Chain& final_chain) {
            return std::ranges::search(final_chain.layers, chain.layers).begin() != final_chain.layers.end();
        });
    }

    store::Store& store_;
    const std::vector<store::Chain>& final_chains_;
    CacheMode mode_;
    std::map<solver::KeyId, Known> known_;
    std::map<solver::KeyId, std::optional<std::size_t>> places_;
    std::map<store::LayerId, std::size_t> layers_;
    Collected out_;
};

}  // namespace

std::string link_text(std::uint32_t input, const solver::KeyId& op, const Digest& selector) {
    return fmt::format("{} {} {}", input, op, selector_text(selector));
}

Result<Collected> collect(store::Store& store, const std::vector<solver::SharedKey>& final_keys,
                          const std::vector<store::Chain>& final_chains, CacheMode mode) {
    return Collector(store, final_chains, mode).collect(final_keys);
}

Result<Imported> import_graph(store::Store& store, const CacheGraph& graph,
                              const std::map<Digest, LayerPlace>& places) {
    Imported imported;
    std::vector<std::optional<store::LayerId>> layers;
    for (const Digest& blob : graph.layers) {
        const auto place = places.find(blob);
        if (place == places.end() || place->second.diff_id.empty()) {
            layers.emplace_back();
            continue;
        }
        // One that is known stays as it is: what an image named is not replaced by what a cache says.
        if (const auto known = TRY(store.find_layer(place->second.diff_id))) {
            layers.emplace_back(*known);
            continue;
        }
        layers.emplace_back(
            TRY(store.add_lazy_layer(place->second.diff_id, store::LazyLayer{.blob = place->second.blob,
                                                                             .reference = place->second.reference,
                                                                             .created = place->second.created})));
    }
    std::vector<solver::KeyId> ids;
    std::vector<store::CacheLinkRow> links;
    std::vector<store::CacheResultRow> results;
    for (const CacheNode& node : graph.nodes) {
        const solver::KeyId op = node.op.to_string();
        if (node.inputs.empty()) {
            ids.push_back(op);
        } else {
            std::vector<std::vector<solver::InputKey>> inputs;
            for (const auto& ways : node.inputs) {
                auto& keys = inputs.emplace_back();
                for (const auto& way : ways) keys.push_back({way.selector, ids[way.node]});
            }
            ids.push_back(solver::derived_key_id(op, inputs));
            for (std::size_t i = 0; i < inputs.size(); ++i) {
                for (const auto& key : inputs[i])
                    links.push_back({key.key, link_text(static_cast<std::uint32_t>(i), op, key.selector), ids.back()});
            }
        }
        ++imported.records;
        for (const auto& result : node.results) {
            store::Chain chain;
            for (const std::size_t layer : result.layers) {
                if (layers[layer]) chain.layers.push_back(*layers[layer]);
            }
            if (chain.layers.size() != result.layers.size()) continue;
            results.push_back({ids.back(), chain.to_string(), result.created});
            ++imported.results;
        }
    }
    TRY(store.add_cache(links, results));
    return imported;
}

}  // namespace cooper::remotecache
