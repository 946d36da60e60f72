// Graph: all edges of all jobs, and the only place where they change.
//
// The graph feeds events to step() and carries out its actions: it asks ops and stores through a
// Runner, shares one node between all jobs that want the same vertex, lets two vertices with equal
// cache keys do their work once, and stops work that no job wants any more.
//
// Thread rules: one thread (the scheduler's, or a test's). It never blocks; work goes to the Runner
// and its outcome comes back as a Message. With a Runner that is deterministic the graph is, too.
#pragma once

#include "base/clock.hpp"
#include "base/stop.hpp"
#include "solver/audience.hpp"
#include "solver/cache.hpp"
#include "solver/op.hpp"
#include "solver/solver.hpp"
#include "solver/step.hpp"
#include "solver/vertex.hpp"

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <variant>
#include <vector>

namespace cooper::solver {

class Graph;

using JobId = std::uint64_t;
using BuildId = std::uint64_t;
using TaskId = std::uint64_t;

// ---- what a piece of work brought back
struct MapDone {
    Result<CacheMapPart> part;
};
struct ContentDone {
    std::size_t input = 0;
    Result<Digest> digest;
};
struct AlikeDone {
    std::size_t input = 0;
    Result<Digest> digest;
};
struct LoadDone {
    std::uint32_t output = 0;
    CacheRecord record;
    Result<std::optional<SharedResult>> result;
};
struct ExecuteDone {
    Result<std::vector<SharedResult>> results;
    std::vector<std::optional<ResultId>> saved;  // per output
    Timestamp created;
};
using TaskOutcome = std::variant<MapDone, ContentDone, AlikeDone, LoadDone, ExecuteDone>;

// ---- what the graph is told
struct OpenJob {
    JobId job = 0;
    ProgressSink* progress = nullptr;
    CachePolicy cache = CachePolicy::use;
};
struct StartBuild {
    JobId job = 0;
    BuildId build = 0;
    std::vector<Output> outputs;
    std::move_only_function<void(Result<std::vector<SharedResult>>)> reply;
};
struct CancelBuild {
    BuildId build = 0;
};
struct CloseJob {
    JobId job = 0;
    std::move_only_function<void()> reply;
};
struct TaskDone {
    TaskId task = 0;
    TaskOutcome outcome;
};
struct Inspect {
    std::move_only_function<void(const Graph*)> look;
};
using Message = std::variant<OpenJob, StartBuild, CancelBuild, CloseJob, TaskDone, Inspect>;

// Where work runs, and the way back. post() may be called from any thread.
class Runner {
public:
    virtual ~Runner() = default;
    virtual void run(PoolKind pool, std::move_only_function<void()> work) = 0;
    virtual void post(Message message) = 0;
};

class Graph {
public:
    Graph(Runner& runner, CacheStore& cache, ResultStore& results, const Clock& clock);
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;
    ~Graph();

    // Handles the message and all that follows from it.
    void handle(Message message);

    [[nodiscard]] std::vector<VertexReport> report(JobId job) const;
    [[nodiscard]] std::optional<OutputReport> explain(JobId job, const Output& output) const;
    [[nodiscard]] std::optional<Digest> failed_vertex(JobId job) const;
    // For tests: nodes alive and pieces of work out.
    [[nodiscard]] std::size_t node_count() const { return nodes_.size(); }
    [[nodiscard]] std::size_t task_count() const { return tasks_.size(); }

private:
    struct Node;
    struct Edge;
    struct JobState;
    struct Build;
    struct NodeKey {
        Digest digest;
        bool ignore_cache = false;
        std::string scope;
        friend bool operator==(const NodeKey&, const NodeKey&) = default;
    };
    struct NodeKeyHash {
        std::size_t operator()(const NodeKey& key) const noexcept {
            return std::hash<Digest>()(key.digest) * 2 + (key.ignore_cache ? 1 : 0) +
                   std::hash<std::string>()(key.scope);
        }
    };

    void on(OpenJob message);
    void on(StartBuild message);
    void on(CancelBuild message);
    void on(CloseJob message);
    void on(TaskDone message);
    void on(Inspect message);
    void settle();

    // graph.cpp: nodes, edges, actions
    Node& node_of(JobState& job, const std::shared_ptr<const Vertex>& vertex);
    Node& find_or_create(CachePolicy policy, const std::shared_ptr<const Vertex>& vertex);
    Edge& edge_of(Node& node, std::uint32_t output);
    void join(Node& node, JobState& job);
    void push(Edge& edge, Event event);
    void process(Edge& edge, Event event);
    void act(Edge& edge, AskMap action);
    void act(Edge& edge, AskInput action);
    void act(Edge& edge, AskContent action);
    void act(Edge& edge, AskAlike action);
    void act(Edge& edge, Follow action);
    void act(Edge& edge, FindRecords action);
    void act(Edge& edge, Load action);
    void act(Edge& edge, Execute action);
    void act(Edge& edge, Announce action);
    void announce(Edge& edge);
    void send_state(const Edge& from, Edge& to, std::size_t input);
    void warn(Node& node, std::string text);

    // graph_work.cpp: work out and back
    void start(Node& node, PoolKind pool, std::move_only_function<TaskOutcome(OpContext&)> work);
    void take(Node& node, MapDone outcome);
    void take(Node& node, ContentDone outcome);
    void take(Node& node, AlikeDone outcome);
    void take(Node& node, LoadDone outcome);
    void take(Node& node, ExecuteDone outcome);
    void begin_execution(Edge& edge);
    static std::vector<std::vector<std::string>> link_names(const Edge& edge);
    Node* find_equal(const Edge& edge, const std::vector<std::vector<std::string>>& names);
    void learn(Edge& edge);
    void adopt(Node& node, const Node& leader);
    void deliver_results(Node& node);
    void fail_node(Node& node, const Error& error);
    void leave_indexes(Node& node);

    // graph_jobs.cpp: builds, what is still wanted, what people see
    static void list_vertices(Build& build, const std::shared_ptr<const Vertex>& root);
    void check_build(Build& build);
    void end_build(Build& build);
    void answer_ended();
    void sweep();
    void drop(Node& node);
    static OutputReport report_on(const Edge& edge);
    static VertexEvent event_of(const Vertex& vertex);
    static VertexEvent event_of(const Node& node);
    static void show(Node& node);
    static void set_fate(const Node& node, JobState& job);
    void show_started(Node& node);
    void pause_clock(Node& node);
    void show_paused(Node& node);
    void show_ended(Node& node, VertexFate fate, const std::string& error);
    void show_rest_as_cached(Build& build);

    Runner& runner_;
    CacheStore& cache_;
    ResultStore& results_;
    const Clock& clock_;

    std::map<std::uint64_t, std::shared_ptr<Node>> nodes_;    // by age: all that some job may reach
    std::unordered_map<NodeKey, Node*, NodeKeyHash> index_;   // those that a job may still join
    std::unordered_multimap<std::string, Node*> executions_;  // by link: begun or done in this process
    std::map<JobId, std::unique_ptr<JobState>> jobs_;
    std::map<BuildId, std::unique_ptr<Build>> builds_;
    std::unordered_map<TaskId, std::shared_ptr<Node>> tasks_;
    std::deque<std::pair<Edge*, Event>> queue_;
    std::vector<Edge*> announcements_;
    TaskId next_task_ = 1;
    std::uint64_t next_node_ = 1;
    std::uint64_t last_mark_ = 0;
    bool sweep_wanted_ = false;
};

}  // namespace cooper::solver
