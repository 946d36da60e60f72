// History: what was built, kept over restarts. FOLDER/records/<sha256 of the ref> is a BuildHistoryRecord,
// FOLDER/blobs/<hex> what records point to: the log of each build as the journals have it, and what else is to be read
// through the content service. Every file gets its name when it is whole. Any thread.
#pragma once

#include "base/clock.hpp"
#include "base/digest.hpp"
#include "base/guarded.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"
#include "daemon/progress_hub.hpp"
#include "rpc/grpc_types.hpp"
#include "sys/rooted_dir.hpp"

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace moby::buildkit::v1 {
class BuildHistoryEvent;
class BuildHistoryRecord;
class BuildHistoryRequest;
class SolveRequest;
class SolveResponse;
class UpdateBuildHistoryRequest;
}  // namespace moby::buildkit::v1

namespace cooper::daemon {

// Beyond this many, records that are older go, unless they are pinned.
struct HistoryLimits {
    std::size_t max_records = 50;
    std::chrono::seconds max_age = std::chrono::hours(48);
};

class History {
public:
    using Record = moby::buildkit::v1::BuildHistoryRecord;
    using Event = moby::buildkit::v1::BuildHistoryEvent;

    // Damaged records are forgotten with a warning.
    static Result<std::unique_ptr<History>> open(const std::string& folder, const Clock& clock,
                                                 const HistoryLimits& limits);
    History(const History&) = delete;
    History& operator=(const History&) = delete;
    ~History();

    void begin(const moby::buildkit::v1::SolveRequest& request);
    // progress is closed. Failing to write it down is logged, and fails no build.
    void complete(const std::string& ref, const grpc::Status& status, const moby::buildkit::v1::SolveResponse& response,
                  BuildProgress& progress);
    // Provenance of a build under way, kept with its record; platform "" is the only one. As complete(), it never
    // fails.
    void attach(const std::string& ref, const std::string& platform, std::string_view predicate_type,
                const std::string& predicate);
    Result<> update(const moby::buildkit::v1::UpdateBuildHistoryRequest& request);
    // The records that match, oldest first, then (unless early_exit) what changes, until the stop or until `write`
    // says false.
    Result<> listen(const moby::buildkit::v1::BuildHistoryRequest& request,
                    const std::function<bool(const Event&)>& write, const Stop& stop);

    // The journal of a build that is over; not_found.
    Result<sys::Fd> open_log(const std::string& ref);
    // not_found when the history has no such blob.
    Result<sys::Fd> open_blob(const Digest& digest);

private:
    struct Listener {
        std::deque<std::shared_ptr<const Event>> queue;
        bool lost = false;  // more came than it took
    };
    struct State {
        std::map<std::string, std::shared_ptr<const Record>> active;
        std::map<std::string, std::shared_ptr<const Record>> done;
        std::vector<Listener*> listeners;
    };
    History(sys::RootedDir dir, const Clock& clock, const HistoryLimits& limits);
    Result<> load();
    Result<> save(const Record& record);
    Result<> store_log(sys::Fd journal, Record& record);
    void tell(State& state, int type, const std::shared_ptr<const Record>& record);
    void forget(State& state, const std::string& ref);
    void forget_old(State& state);

    sys::RootedDir dir_;
    const Clock& clock_;
    HistoryLimits limits_;
    Guarded<State> state_;
};

}  // namespace cooper::daemon
