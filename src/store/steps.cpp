// Records of steps, the lists of files that they read, and why steps ran. They explain, and nothing else:
// losing them makes no build wrong. So they are bounded by numbers, and the oldest go.
#include "base/text.hpp"
#include "store/store.hpp"

#include <algorithm>
#include <array>
#include <set>

namespace cooper::store {

namespace {

constexpr std::int64_t kStepsPerInstruction = 6;  // of one project and stage
constexpr std::int64_t kUnfinishedPerInstruction = 2;
constexpr std::int64_t kSteps = 20'000;
constexpr std::int64_t kMisses = 5'000;
constexpr std::int64_t kManifests = 4'000;
constexpr std::int64_t kManifestBytes = 64'000'000;
constexpr std::chrono::hours kKeptWithoutResult{30 * 24};

StepRecord step_of(const Row& row) {
    return {.project = row.text(0),
            .stage = row.text(1),
            .text = row.text(2),
            .result = row.text(3),
            .manifests = row.text(4),
            .data = row.text(5),
            .created = Timestamp{std::chrono::nanoseconds(row.integer(6))}};
}

}  // namespace

Result<std::int64_t> Store::add_step(const StepRecord& step) { return replace_step(0, step); }

Result<std::int64_t> Store::replace_step(std::int64_t replaced, const StepRecord& step) {
    const std::int64_t created = step.created == Timestamp{} ? now() : step.created.time_since_epoch().count();
    std::int64_t id = 0;
    TRY(database_->transaction([&]() -> Result<> {
        if (replaced != 0) TRY(database_->run("DELETE FROM steps WHERE id = ?", {replaced}));
        TRY(database_->run("DELETE FROM steps WHERE project = ? AND stage = ? AND text = ? AND data = ?",
                           {step.project, step.stage, step.text, step.data}));
        id = TRY(
            database_->insert("INSERT INTO steps(project, stage, text, result, manifests, data, created) "
                              "VALUES(?, ?, ?, ?, ?, ?, ?)",
                              {step.project, step.stage, step.text, step.result, step.manifests, step.data, created}));
        // Runs that gave nothing do not crowd out those that gave something.
        const bool unfinished = step.result == kUnfinished;
        TRY(database_->run(
            "DELETE FROM steps WHERE project = ?1 AND stage = ?2 AND text = ?3 AND (result = ?5) = ?6 AND id NOT IN "
            "(SELECT id FROM steps WHERE project = ?1 AND stage = ?2 AND text = ?3 AND (result = ?5) = ?6 "
            "ORDER BY id DESC LIMIT ?4)",
            {step.project, step.stage, step.text, unfinished ? kUnfinishedPerInstruction : kStepsPerInstruction,
             std::string(kUnfinished), std::int64_t{unfinished}}));
        return database_->run("DELETE FROM steps WHERE id <= ?", {id - kSteps});
    }));
    return id;
}

Result<std::vector<StepRecord>> Store::find_steps(const std::string& project, const std::string& stage,
                                                  const std::string& text) {
    std::vector<StepRecord> steps;
    const auto take = [&](const Row& row) { steps.push_back(step_of(row)); };
    const std::array<Value, 3> same = {project, stage, text};
    // First the same instruction at the same place, then others at that place, then that instruction elsewhere.
    TRY(
        database_->run("SELECT project, stage, text, result, manifests, data, created FROM steps "
                       "WHERE project = ? AND stage = ? AND text = ? ORDER BY id DESC LIMIT 8",
                       same, take));
    if (std::ranges::any_of(steps, [](const auto& step) { return step.result != kUnfinished; })) return steps;
    TRY(
        database_->run("SELECT project, stage, text, result, manifests, data, created FROM steps "
                       "WHERE project = ? AND stage = ? AND text <> ? ORDER BY id DESC LIMIT 48",
                       same, take));
    const std::array<Value, 1> elsewhere = {text};
    TRY(
        database_->run("SELECT project, stage, text, result, manifests, data, created FROM steps "
                       "WHERE text = ? ORDER BY id DESC LIMIT 12",
                       elsewhere, take));
    return steps;
}

Result<std::optional<StepRecord>> Store::find_step_of(const std::string& result) {
    std::optional<StepRecord> found;
    const std::array<Value, 1> values = {result};
    TRY(
        database_->run("SELECT project, stage, text, result, manifests, data, created FROM steps WHERE result = ? "
                       "ORDER BY id DESC LIMIT 1",
                       values, [&](const Row& row) { found = step_of(row); }));
    return found;
}

Result<bool> Store::has_manifest(const std::string& name) {
    bool found = false;
    const std::array<Value, 1> values = {name};
    TRY(database_->run("SELECT 1 FROM manifests WHERE name = ?", values, [&](const Row& /*row*/) { found = true; }));
    return found;
}

Result<> Store::add_manifest(const std::string& name, const std::string& data) {
    if (static_cast<std::int64_t>(data.size()) > kManifestBytes / 4) return {};
    return database_->transaction([&]() -> Result<> {
        TRY(database_->run("INSERT OR IGNORE INTO manifests(name, size, data) VALUES(?, ?, ?)",
                           {name, static_cast<std::int64_t>(data.size()), data}));
        std::int64_t bytes = 0;
        std::int64_t count = 0;
        std::int64_t last_to_go = 0;
        TRY(database_->run("SELECT id, size FROM manifests ORDER BY id DESC", {}, [&](const Row& row) {
            bytes += row.integer(1);
            ++count;
            if (last_to_go == 0 && (bytes > kManifestBytes || count > kManifests)) last_to_go = row.integer(0);
        }));
        if (last_to_go == 0) return {};
        return database_->run("DELETE FROM manifests WHERE id <= ?", {last_to_go});
    });
}

Result<std::optional<std::string>> Store::manifest(const std::string& name) {
    std::optional<std::string> data;
    const std::array<Value, 1> values = {name};
    TRY(database_->run("SELECT data FROM manifests WHERE name = ?", values,
                       [&](const Row& row) { data = row.text(0); }));
    return data;
}

Result<> Store::add_miss(const std::string& build, const std::string& data) {
    return database_->transaction([&]() -> Result<> {
        const std::int64_t id =
            TRY(database_->insert("INSERT INTO misses(build, data, created) VALUES(?, ?, ?)", {build, data, now()}));
        return database_->run("DELETE FROM misses WHERE id <= ?", {id - kMisses});
    });
}

Result<Store::Misses> Store::misses(const std::string& build) {
    Misses misses;
    std::set<std::string> builds;
    if (build.empty()) {
        TRY(database_->run("SELECT build FROM misses ORDER BY id DESC LIMIT 1", {},
                           [&](const Row& row) { builds.insert(row.text(0)); }));
    } else {
        const std::array<Value, 2> values = {static_cast<std::int64_t>(build.size()), build};
        TRY(database_->run("SELECT DISTINCT build FROM misses WHERE substr(build, 1, ?) = ?", values,
                           [&](const Row& row) { builds.insert(row.text(0)); }));
    }
    if (builds.empty()) return misses;
    if (builds.size() > 1) return bad_input("{} builds begin with {}", builds.size(), build);
    misses.build = *builds.begin();
    const std::array<Value, 1> values = {misses.build};
    TRY(database_->run("SELECT data, created FROM misses WHERE build = ? ORDER BY id", values, [&](const Row& row) {
        misses.data.push_back(row.text(0));
        misses.last = Timestamp{std::chrono::nanoseconds(row.integer(1))};
    }));
    return misses;
}

// With the cache: what is gone for long need not be explained any more, and lists that no step names go.
Result<> Store::prune_steps() {
    return database_->transaction([&]() -> Result<> {
        const std::int64_t old = now() - std::chrono::nanoseconds(kKeptWithoutResult).count();
        TRY(database_->run("DELETE FROM steps WHERE created < ? AND result NOT IN (SELECT result FROM results)",
                           {old}));
        std::set<std::string> named;
        TRY(database_->run("SELECT manifests FROM steps", {}, [&](const Row& row) {
            for (auto& name : split(row.text(0), ' ')) named.insert(std::move(name));
        }));
        std::vector<std::int64_t> unnamed;
        TRY(database_->run("SELECT id, name FROM manifests", {}, [&](const Row& row) {
            if (!named.contains(row.text(1))) unnamed.push_back(row.integer(0));
        }));
        for (const std::int64_t id : unnamed) TRY(database_->run("DELETE FROM manifests WHERE id = ?", {id}));
        return {};
    });
}

}  // namespace cooper::store
