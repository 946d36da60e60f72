#include "remotecache/cache_config.hpp"

#include "codec/go_json.hpp"
#include "codec/rfc3339.hpp"
#include "oci/json_text.hpp"
#include "solver/cache.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <utility>

namespace cooper::remotecache {

namespace {

using nlohmann::json;

constexpr std::size_t kMaxChain = 2000;         // layers below one result
constexpr std::size_t kMaxAllChains = 4 << 20;  // of all results together
constexpr std::string_view kGoZeroTime = "0001-01-01T00:00:00Z";

Error malformed(std::string_view what) { return bad_input("cache configuration: {}", what); }

Result<std::int64_t> number_of(const json& object, const char* name, std::int64_t otherwise) {
    const auto found = object.find(name);
    if (found == object.end() || found->is_null()) return otherwise;
    if (!found->is_number_integer()) return malformed(fmt::format("{} is no number", name));
    return found->get<std::int64_t>();
}

Result<Digest> digest_of(const json& object, const char* name, bool required) {
    const auto found = object.find(name);
    if (found == object.end() || found->is_null() ||
        (found->is_string() && found->get_ref<const std::string&>().empty())) {
        if (required) return malformed(fmt::format("a record or layer has no {}", name));
        return Digest();
    }
    if (!found->is_string()) return malformed(fmt::format("{} is no digest", name));
    return Digest::parse(found->get_ref<const std::string&>());
}

Result<const json*> list_of(const json& object, const char* name) {
    static const json kNone = json::array();
    const auto found = object.find(name);
    if (found == object.end() || found->is_null()) return &kNone;
    if (!found->is_array()) return malformed(fmt::format("{} is no list", name));
    return &*found;
}

Timestamp time_of(const json& object) {
    const auto found = object.find("createdAt");
    if (found == object.end() || !found->is_string()) return {};
    return codec::parse_rfc3339(found->get_ref<const std::string&>()).value_or(Timestamp{});
}

// Reads records; what a layer index means is the caller's.
class RecordReader {
public:
    // chains: for each layer index the layers from the bottom up to it.
    explicit RecordReader(const std::vector<std::vector<std::size_t>>& chains) : chains_(chains) {}

    Result<std::vector<CacheNode>> read(const json& records) {
        std::vector<CacheNode> nodes;
        nodes.reserve(records.size());
        for (const json& record : records) nodes.push_back(TRY(node_of(record, records.size())));
        return in_order(std::move(nodes));
    }

private:
    Result<std::size_t> layer_index(const json& value) {
        if (!value.is_number_integer()) return malformed("a layer index is no number");
        const auto index = value.get<std::int64_t>();
        if (index < 0 || static_cast<std::uint64_t>(index) >= chains_.size())
            return malformed(fmt::format("there is no layer {}", index));
        return static_cast<std::size_t>(index);
    }

    Result<CacheNode> node_of(const json& record, std::size_t count) {
        if (!record.is_object()) return malformed("a record is no object");
        CacheNode node;
        node.op = TRY(digest_of(record, "digest", true));
        for (const json& input : *TRY(list_of(record, "inputs"))) {
            if (!input.is_array()) return malformed("an input is no list");
            auto& ways = node.inputs.emplace_back();
            for (const json& way : input) {
                if (!way.is_object()) return malformed("an input is no object");
                const std::int64_t link = TRY(number_of(way, "link", 0));
                if (link < 0 || static_cast<std::uint64_t>(link) >= count)
                    return malformed(fmt::format("there is no record {}", link));
                ways.push_back({TRY(digest_of(way, "selector", false)), static_cast<std::size_t>(link)});
            }
        }
        for (const json& result : *TRY(list_of(record, "layers"))) {
            if (!result.is_object()) return malformed("a result is no object");
            const auto found = result.find("layer");
            const std::size_t index = found == result.end() ? 0 : TRY(layer_index(*found));
            if (index >= chains_.size()) return malformed("there is no layer 0");
            TRY(add(node, chains_[index], time_of(result)));
        }
        for (const json& result : *TRY(list_of(record, "chains"))) {
            if (!result.is_object()) return malformed("a result is no object");
            std::vector<std::size_t> layers;
            for (const json& one : *TRY(list_of(result, "layers"))) {
                const std::size_t index = TRY(layer_index(one));
                layers.push_back(chains_[index].back());
            }
            if (!layers.empty()) TRY(add(node, std::move(layers), time_of(result)));
        }
        return node;
    }

    Result<> add(CacheNode& node, std::vector<std::size_t> layers, Timestamp created) {
        total_ += layers.size();
        if (layers.size() > kMaxChain || total_ > kMaxAllChains) return malformed("results have too many layers");
        node.results.push_back({std::move(layers), created});
        return {};
    }

    // Inputs before dependents.
    static Result<std::vector<CacheNode>> in_order(std::vector<CacheNode> nodes) {
        std::vector<std::size_t> waits(nodes.size());
        std::vector<std::vector<std::size_t>> dependents(nodes.size());
        for (std::size_t i = 0; i < nodes.size(); ++i) {
            for (const auto& ways : nodes[i].inputs) {
                for (const auto& way : ways) {
                    ++waits[i];
                    dependents[way.node].push_back(i);
                }
            }
        }
        std::vector<std::size_t> order;
        for (std::size_t i = 0; i < nodes.size(); ++i) {
            if (waits[i] == 0) order.push_back(i);
        }
        for (std::size_t at = 0; at < order.size(); ++at) {
            for (const std::size_t dependent : dependents[order[at]]) {
                if (--waits[dependent] == 0) order.push_back(dependent);
            }
        }
        if (order.size() != nodes.size()) return malformed("records depend on themselves");
        std::vector<std::size_t> place(nodes.size());
        for (std::size_t i = 0; i < order.size(); ++i) place[order[i]] = i;
        std::vector<CacheNode> sorted;
        sorted.reserve(nodes.size());
        for (const std::size_t from : order) {
            sorted.push_back(std::move(nodes[from]));
            for (auto& ways : sorted.back().inputs) {
                for (auto& way : ways) way.node = place[way.node];
            }
        }
        return sorted;
    }

    const std::vector<std::vector<std::size_t>>& chains_;
    std::size_t total_ = 0;
};

Result<json> parse_json(std::string_view text) {
    TRY(oci::check_json_bounds(text, kMaxConfigBytes, "cache configuration"));
    json parsed = json::parse(text, nullptr, false);
    if (parsed.is_discarded()) return malformed("it is no JSON");
    return parsed;
}

Result<LayerFacts> facts_of(const json& annotations) {
    if (!annotations.is_object()) return malformed("the annotations of a layer are no object");
    LayerFacts facts;
    const auto type = annotations.find("mediaType");
    if (type != annotations.end() && type->is_string()) facts.media_type = type->get<std::string>();
    facts.diff_id = TRY(digest_of(annotations, "diffID", false));
    const std::int64_t size = TRY(number_of(annotations, "size", 0));
    if (size < 0) return malformed("the size of a layer is negative");
    facts.size = static_cast<std::uint64_t>(size);
    facts.created = time_of(annotations);
    return facts;
}

// For each layer of the text all below it and itself, by the parents that it names.
Result<std::vector<std::vector<std::size_t>>> chains_of(const json& layers, std::vector<Digest>& blobs,
                                                        std::map<Digest, LayerFacts>& facts) {
    std::vector<std::optional<std::size_t>> parents;
    for (const json& layer : layers) {
        if (!layer.is_object()) return malformed("a layer is no object");
        blobs.push_back(TRY(digest_of(layer, "blob", true)));
        if (const auto found = layer.find("annotations"); found != layer.end() && !found->is_null())
            facts[blobs.back()] = TRY(facts_of(*found));
        // Go leaves a zero out: no parent named means the first layer.
        const std::int64_t parent = TRY(number_of(layer, "parent", 0));
        if (parent >= 0 && static_cast<std::uint64_t>(parent) >= layers.size())
            return malformed(fmt::format("there is no layer {}", parent));
        parents.push_back(parent < 0 ? std::nullopt : std::optional(static_cast<std::size_t>(parent)));
    }
    std::vector<std::vector<std::size_t>> chains(parents.size());
    std::size_t total = 0;
    for (std::size_t i = 0; i < parents.size(); ++i) {
        for (std::optional<std::size_t> at = i; at; at = parents[*at]) {
            chains[i].push_back(*at);
            if (chains[i].size() > std::min(kMaxChain, parents.size()))
                return malformed("layers are their own parents, or are too many");
        }
        total += chains[i].size();
        if (total > kMaxAllChains) return malformed("layers have too many parents");
        std::ranges::reverse(chains[i]);
    }
    return chains;
}

// A name of each node that says all that it says, so that their order does not depend on how they were found.
std::vector<std::string> names_of(const CacheGraph& graph) {
    std::vector<std::string> names;
    for (const CacheNode& node : graph.nodes) {
        std::vector<std::vector<solver::InputKey>> inputs;
        for (const auto& ways : node.inputs) {
            auto& keys = inputs.emplace_back();
            for (const auto& way : ways) keys.push_back({way.selector, names[way.node]});
        }
        names.push_back(node.inputs.empty() ? node.op.to_string()
                                            : solver::derived_key_id(node.op.to_string(), inputs));
    }
    return names;
}

void write_time(codec::GoJson& out, Timestamp created) {
    out.field("createdAt", created == Timestamp{} ? std::string(kGoZeroTime) : format_rfc3339(created));
}

// write_results says how a record names its layers.
template <typename WriteResults>
void write_records(codec::GoJson& out, const CacheGraph& graph, const WriteResults& write_results) {
    const std::vector<std::string> names = names_of(graph);
    std::vector<std::size_t> order(graph.nodes.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(order, {}, [&](std::size_t i) { return std::pair(graph.nodes[i].op.to_string(), names[i]); });
    std::vector<std::size_t> place(order.size());
    for (std::size_t i = 0; i < order.size(); ++i) place[order[i]] = i;
    out.begin_array();
    for (const std::size_t index : order) {
        const CacheNode& node = graph.nodes[index];
        out.begin_object();
        write_results(node);
        out.field("digest", node.op.to_string());
        if (!node.inputs.empty()) {
            out.key("inputs").begin_array();
            for (const auto& ways : node.inputs) {
                std::vector<std::pair<std::string, std::size_t>> links;
                for (const auto& way : ways)
                    links.emplace_back(way.selector.empty() ? "" : way.selector.to_string(), place[way.node]);
                std::ranges::sort(links);
                out.begin_array();
                for (const auto& [selector, link] : links) {
                    out.begin_object();
                    if (!selector.empty()) out.field("selector", selector);
                    out.key("link").unsigned_integer(link);
                    out.end_object();
                }
                out.end_array();
            }
            out.end_array();
        }
        out.end_object();
    }
    out.end_array();
}

}  // namespace

Result<CacheGraph> parse_cache_config(std::string_view text) {
    const json parsed = TRY(parse_json(text));
    if (!parsed.is_object()) return malformed("it is no object");
    CacheGraph graph;
    const auto chains = TRY(chains_of(*TRY(list_of(parsed, "layers")), graph.layers, graph.facts));
    graph.nodes = TRY(RecordReader(chains).read(*TRY(list_of(parsed, "records"))));
    return graph;
}

std::string marshal_cache_config(const CacheGraph& graph) {
    // A layer of the text is a layer of the graph on top of another one of the text.
    struct Placed {
        std::optional<std::size_t> parent;
        Digest blob;
        std::string path;  // the blobs below and its own: what it is sorted by
    };
    std::vector<Placed> placed;
    std::map<std::pair<std::optional<std::size_t>, Digest>, std::size_t> known;
    const auto place = [&](const std::vector<std::size_t>& layers) {
        std::optional<std::size_t> at;
        for (const std::size_t layer : layers) {
            const Digest& blob = graph.layers[layer];
            const auto [entry, fresh] = known.try_emplace({at, blob}, placed.size());
            if (fresh) placed.push_back({at, blob, (at ? placed[*at].path + " " : std::string()) + blob.hex()});
            at = entry->second;
        }
        return *at;
    };
    for (const CacheNode& node : graph.nodes) {
        for (const auto& result : node.results) place(result.layers);
    }
    std::vector<std::size_t> order(placed.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(order, {}, [&](std::size_t i) { return std::pair(placed[i].blob.to_string(), placed[i].path); });
    std::vector<std::size_t> index(order.size());
    for (std::size_t i = 0; i < order.size(); ++i) index[order[i]] = i;

    codec::GoJson out;
    out.begin_object();
    if (!order.empty()) {
        out.key("layers").begin_array();
        for (const std::size_t from : order) {
            out.begin_object().field("blob", placed[from].blob.to_string());
            const std::int64_t parent =
                placed[from].parent ? static_cast<std::int64_t>(index[*placed[from].parent]) : std::int64_t{-1};
            if (parent != 0) out.key("parent").integer(parent);
            if (const auto found = graph.facts.find(placed[from].blob); found != graph.facts.end()) {
                const LayerFacts& facts = found->second;
                out.key("annotations").begin_object();
                if (!facts.media_type.empty()) out.field("mediaType", facts.media_type);
                if (!facts.diff_id.empty()) out.field("diffID", facts.diff_id.to_string());
                if (facts.size != 0) out.key("size").unsigned_integer(facts.size);
                write_time(out, facts.created);
                out.end_object();
            }
            out.end_object();
        }
        out.end_array();
    }
    if (!graph.nodes.empty()) {
        out.key("records");
        write_records(out, graph, [&](const CacheNode& node) {
            if (node.results.empty()) return;
            out.key("layers").begin_array();
            for (const auto& result : node.results) {
                out.begin_object().key("layer").unsigned_integer(index[place(result.layers)]);
                write_time(out, result.created);
                out.end_object();
            }
            out.end_array();
        });
    }
    out.end_object();
    return std::move(out).take();
}

void merge_into(CacheGraph& graph, const CacheGraph& other) {
    const std::size_t first_layer = graph.layers.size();
    graph.layers.insert(graph.layers.end(), other.layers.begin(), other.layers.end());
    graph.facts.insert(other.facts.begin(), other.facts.end());
    std::map<std::string, std::size_t> known;
    const std::vector<std::string> own = names_of(graph);
    for (std::size_t i = 0; i < own.size(); ++i) known.try_emplace(own[i], i);
    const std::vector<std::string> names = names_of(other);
    std::vector<std::size_t> place;
    for (std::size_t i = 0; i < other.nodes.size(); ++i) {
        CacheNode node = other.nodes[i];
        for (auto& result : node.results) {
            for (std::size_t& layer : result.layers) layer += first_layer;
        }
        const auto [entry, fresh] = known.try_emplace(names[i], graph.nodes.size());
        place.push_back(entry->second);
        if (!fresh) {
            // What both have is the same step: one result is enough.
            if (graph.nodes[entry->second].results.empty())
                graph.nodes[entry->second].results = std::move(node.results);
            continue;
        }
        for (auto& ways : node.inputs) {
            for (auto& way : ways) way.node = place[way.node];
        }
        graph.nodes.push_back(std::move(node));
    }
}

Result<CacheGraph> parse_inline_records(std::string_view text, std::vector<Digest> image_layers) {
    const json parsed = TRY(parse_json(text));
    if (!parsed.is_array()) return malformed("it is no list of records");
    std::vector<std::vector<std::size_t>> chains(image_layers.size());
    for (std::size_t i = 0; i < chains.size(); ++i) {
        chains[i].resize(i + 1);
        std::iota(chains[i].begin(), chains[i].end(), std::size_t{0});
    }
    CacheGraph graph;
    graph.layers = std::move(image_layers);
    graph.nodes = TRY(RecordReader(chains).read(parsed));
    return graph;
}

std::string marshal_inline_records(const CacheGraph& graph) {
    codec::GoJson out;
    write_records(out, graph, [&](const CacheNode& node) {
        const auto is_stack = [](const CacheNode::Result& result) {
            for (std::size_t i = 0; i < result.layers.size(); ++i) {
                if (result.layers[i] != i) return false;
            }
            return true;
        };
        for (const bool stacks : {true, false}) {
            bool begun = false;
            for (const auto& result : node.results) {
                if (is_stack(result) != stacks) continue;
                if (!std::exchange(begun, true)) out.key(stacks ? "layers" : "chains").begin_array();
                out.begin_object();
                if (stacks) {
                    out.key("layer").unsigned_integer(result.layers.size() - 1);
                } else {
                    out.key("layers").begin_array();
                    for (const std::size_t layer : result.layers) out.unsigned_integer(layer);
                    out.end_array();
                }
                write_time(out, result.created);
                out.end_object();
            }
            if (begun) out.end_array();
        }
    });
    return std::move(out).take();
}

}  // namespace cooper::remotecache
