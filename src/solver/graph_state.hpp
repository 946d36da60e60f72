// The records behind Graph: nodes, edges, jobs, builds. Private to graph*.cpp; scheduler's thread only.
#pragma once

#include "solver/graph.hpp"

#include <chrono>
#include <string>
#include <unordered_set>

namespace cooper::solver {

// One output of a node.
struct Graph::Edge {
    Node* node = nullptr;
    EdgeState s;
    std::vector<Edge*> inputs;  // nullptr until asked
    std::vector<std::pair<Edge*, std::size_t>> dependents;
    bool is_target = false;
    bool announce_pending = false;
    bool awaits_map = false;
    bool awaits_execution = false;
    bool learned = false;
    std::uint64_t mark_needed = 0;
};

// One vertex, whoever wants it. What its edges share: maps, content digests, the execution.
struct Graph::Node {
    enum class Execution : std::uint8_t { none, running, following, done };
    struct Content {
        bool asked = false;
        SharedKey key;
        bool alike_asked = false;
        std::optional<Digest> alike;
    };

    std::uint64_t id = 0;
    std::shared_ptr<const Vertex> vertex;
    NodeKey index_key;
    CachePolicy policy = CachePolicy::use;  // for inputs yet to be created
    std::vector<std::unique_ptr<Edge>> edges;
    std::vector<JobId> jobs;
    std::shared_ptr<Audience> audience = std::make_shared<Audience>();
    StopSource stop;
    std::size_t tasks = 0;
    bool dead = false;     // failed or dropped: nobody may join, what comes back is ignored
    bool dropped = false;  // no longer in the graph
    std::uint64_t mark_kept = 0;
    std::uint64_t mark_needed = 0;

    std::vector<CacheMapPart> maps;
    bool map_running = false;
    std::vector<Content> contents;
    Execution execution = Execution::none;
    std::vector<SharedResult> results;
    std::vector<SharedKey> result_keys;
    std::vector<std::optional<ResultId>> saved;
    Timestamp created;
    Node* leader = nullptr;
    std::vector<Node*> followers;
    std::vector<std::string> execution_links;

    // What people see. `started` is moved so that completed - started is the time worked.
    VertexFate fate = VertexFate::untouched;
    std::size_t working = 0;
    std::chrono::nanoseconds worked{0};
    std::optional<Timestamp> started;
    std::optional<Timestamp> completed;
    std::string error;
    bool cancelled = false;

    [[nodiscard]] bool ignores_cache() const { return index_key.ignore_cache; }
};

struct Graph::JobState {
    struct Info {
        std::shared_ptr<const Vertex> vertex;
        VertexFate fate = VertexFate::untouched;
    };
    JobId id = 0;
    ProgressSink* progress = nullptr;
    CachePolicy cache = CachePolicy::use;
    std::vector<Edge*> kept;     // targets of builds that succeeded
    std::vector<Info> vertices;  // inputs first
    std::unordered_map<Digest, std::size_t> by_digest;
    std::map<std::pair<Digest, std::uint32_t>, OutputReport> built;  // its targets; outlives their nodes
    std::optional<Digest> failed;
    std::move_only_function<void()> closing;  // set: close when its work has ended
};

struct Graph::Build {
    BuildId id = 0;
    JobState* job = nullptr;
    std::vector<Edge*> targets;
    std::vector<std::size_t> order;  // of job->vertices, inputs first
    std::unordered_set<Digest> listed;
    std::move_only_function<void(Result<std::vector<SharedResult>>)> reply;
    std::optional<Result<std::vector<SharedResult>>> outcome;  // set: reply when its work has ended
};

}  // namespace cooper::solver
