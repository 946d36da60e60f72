#include "daemon/history.hpp"

#include "base/log.hpp"
#include "codec/base64.hpp"
#include "codec/rfc3339.hpp"
#include "codec/sha256.hpp"
#include "daemon/detail/timestamps.hpp"
#include "daemon/filter.hpp"
#include "dockerfile/go_duration.hpp"
#include "oci/descriptor.hpp"
#include "proto/control.pb.h"
#include "proto/status.pb.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <grpcpp/support/status.h>
#include <unistd.h>

namespace cooper::daemon {

namespace {

using moby::buildkit::v1::BuildHistoryEvent;
using moby::buildkit::v1::BuildHistoryEventType;
using moby::buildkit::v1::BuildHistoryRecord;

constexpr std::size_t kMaxRecord = 16 << 20;
constexpr std::size_t kMaxQueue = 10'000;
constexpr const char* kAttestationMediaType = "application/vnd.in-toto+json";
constexpr const char* kPredicateType = "in-toto.io/predicate-type";
constexpr const char* kStatusMediaType = "application/vnd.buildkit.status.v0";

std::string record_name(const std::string& ref) { return "records/" + codec::sha256_of(ref).hex(); }

// Bytes to a name that was not there before or is replaced, whole.
Result<> write_file(const sys::RootedDir& dir, const std::string& name, std::string_view bytes) {
    const std::string temporary = name + ".new";
    {
        const sys::Fd file = TRY(dir.open(temporary, O_WRONLY | O_CREAT | O_TRUNC, sys::Follow::no, 0600));
        TRY(sys::write_all(file.get(), bytes));
    }
    if (::renameat(dir.fd(), temporary.c_str(), dir.fd(), name.c_str()) != 0)
        return fail_errno(errno, "rename " + name);
    return {};
}

void put_descriptor(const oci::Descriptor& from, moby::buildkit::v1::Descriptor& to) {
    to.set_media_type(from.media_type);
    to.set_digest(from.digest.to_string());
    to.set_size(static_cast<std::int64_t>(from.size));
    for (const auto& [key, value] : from.annotations) (*to.mutable_annotations())[key] = value;
}

// What an export answers about the image, as a result of the record.
void put_result(BuildHistoryRecord& record) {
    const auto at = record.exporterresponse().find("containerimage.descriptor");
    if (at == record.exporterresponse().end()) return;
    const auto text = codec::base64_decode(at->second);
    if (!text) return;
    const auto descriptor = oci::parse_descriptor(*text);
    if (!descriptor) return;
    put_descriptor(*descriptor, *record.mutable_result()->mutable_resultdeprecated());
    put_descriptor(*descriptor, (*record.mutable_result()->mutable_results())[0]);
}

// All that it points to.
std::vector<std::string> blobs_of(const BuildHistoryRecord& record) {
    std::vector<std::string> blobs{record.logs().digest()};
    for (const auto& one : record.result().attestations()) blobs.push_back(one.digest());
    for (const auto& [platform, result] : record.results()) {
        for (const auto& one : result.attestations()) blobs.push_back(one.digest());
    }
    std::erase(blobs, "");
    return blobs;
}

std::string status_of(const BuildHistoryRecord& record) {
    if (!record.has_completedat()) return "running";
    if (!record.has_error()) return "completed";
    if (record.error().code() == grpc::StatusCode::CANCELLED ||
        record.error().message().find("context canceled") != std::string::npos) {
        return "canceled";
    }
    return "error";
}

std::optional<std::string> repository_of(const BuildHistoryRecord& record) {
    const auto& attrs = record.frontendattrs();
    if (const auto at = attrs.find("vcs:source"); at != attrs.end()) return at->second;
    const auto context = attrs.find("context");
    if (context == attrs.end()) return std::nullopt;
    const std::string& text = context->second;
    const bool git = text.starts_with("git://") || text.starts_with("git@") || text.find(".git") != std::string::npos;
    if (!git) return std::nullopt;
    return text.substr(0, text.find('#'));
}

template <class T>
bool stands(const T& left, Filter::Operator op, const T& right) {
    switch (op) {
        case Filter::Operator::less:
            return left < right;
        case Filter::Operator::at_most:
            return left <= right;
        case Filter::Operator::greater:
            return left > right;
        default:
            return left >= right;
    }
}

Result<bool> compare(const BuildHistoryRecord& record, Timestamp now, const Filter::Path& path, Filter::Operator op,
                     const std::string& value) {
    const std::string field = path.size() == 1 ? path.front() : "";
    if (field == "duration") {
        const auto wanted = dockerfile::parse_go_duration(value);
        if (!wanted) return bad_input("invalid filter: {} is no duration such as 90s or 1h30m", value);
        const Timestamp end = record.has_completedat() ? detail::get(record.completedat()) : now;
        return stands<std::int64_t>((end - detail::get(record.createdat())).count(), op, *wanted);
    }
    if (field != "startedAt" && field != "completedAt") {
        return bad_input("invalid filter: {} has no order", field)
            .with_hint("startedAt, completedAt and duration have");
    }
    if (field == "completedAt" && !record.has_completedat()) return false;
    const Timestamp at = detail::get(field == "startedAt" ? record.createdat() : record.completedat());
    if (const auto ago = dockerfile::parse_go_duration(value))
        return stands(at, op, now - std::chrono::nanoseconds(*ago));
    const auto time = codec::parse_rfc3339(value);
    if (!time)
        return bad_input("invalid filter: {} is neither a duration nor a time such as 2026-01-31T12:00:00Z", value);
    return stands(at, op, *time);
}

Result<bool> wanted(const moby::buildkit::v1::BuildHistoryRequest& request, const std::vector<Filter>& filters,
                    const BuildHistoryRecord& record, Timestamp now) {
    if (!request.ref().empty() && request.ref() != record.ref()) return false;
    return any_matches(filters,
                       {.find = [&](const Filter::Path& path) -> std::optional<std::string> {
                            const std::string field = path.size() == 1 ? path.front() : "";
                            if (field == "ref") return record.ref();
                            if (field == "status") return status_of(record);
                            if (field == "repository") return repository_of(record);
                            return std::nullopt;
                        },
                        .compare = [&](const Filter::Path& path, Filter::Operator op,
                                       const std::string& value) { return compare(record, now, path, op, value); }});
}

}  // namespace

History::History(sys::RootedDir dir, const Clock& clock, const HistoryLimits& limits)
    : dir_(std::move(dir)), clock_(clock), limits_(limits) {}

History::~History() = default;

Result<std::unique_ptr<History>> History::open(const std::string& folder, const Clock& clock,
                                               const HistoryLimits& limits) {
    auto dir = TRY(sys::RootedDir::open_host(folder));
    TRY(dir.make_dirs("records", 0700));
    TRY(dir.make_dirs("blobs", 0700));
    auto history = std::unique_ptr<History>(new History(std::move(dir), clock, limits));
    TRY(history->load());
    return history;
}

Result<> History::load() {
    const auto records = TRY(dir_.open_dir("records"));
    auto state = state_.lock();
    for (const auto& entry : TRY(sys::list_dir(records.fd()))) {
        const std::string name = "records/" + entry.name;
        auto record = std::make_shared<Record>();
        const auto bytes = dir_.read_file(name, kMaxRecord);
        if (entry.name.ends_with(".new") || !bytes || !record->ParseFromString(*bytes) ||
            record_name(record->ref()) != name) {
            log::warn("a record of the build history is damaged and is forgotten", {{"file", name}});
            static_cast<void>(dir_.remove_all(name));
            continue;
        }
        const std::string ref = record->ref();
        state->done[ref] = std::move(record);
    }
    // Blobs that lost their record.
    std::vector<std::string> named;
    for (const auto& [ref, record] : state->done) {
        for (auto& blob : blobs_of(*record)) named.push_back(std::move(blob));
    }
    const auto blobs = TRY(dir_.open_dir("blobs"));
    for (const auto& entry : TRY(sys::list_dir(blobs.fd()))) {
        if (std::find(named.begin(), named.end(), "sha256:" + entry.name) == named.end())
            static_cast<void>(dir_.remove_all("blobs/" + entry.name));
    }
    return {};
}

Result<> History::save(const Record& record) {
    return write_file(dir_, record_name(record.ref()), record.SerializeAsString());
}

void History::tell(State& state, int type, const std::shared_ptr<const Record>& record) {
    auto event = std::make_shared<Event>();
    event->set_type(static_cast<BuildHistoryEventType>(type));
    *event->mutable_record() = *record;
    for (Listener* listener : state.listeners) {
        if (listener->queue.size() >= kMaxQueue) {
            listener->lost = true;
        } else {
            listener->queue.push_back(event);
        }
    }
    state_.notify_all();
}

void History::begin(const moby::buildkit::v1::SolveRequest& request) {
    auto record = std::make_shared<Record>();
    record->set_ref(request.ref());
    record->set_frontend(request.frontend());
    *record->mutable_frontendattrs() = request.frontendattrs();
    *record->mutable_exporters() = request.exporters();
    detail::put(clock_.now(), *record->mutable_createdat());
    record->set_generation(1);
    auto state = state_.lock();
    state->active[request.ref()] = record;
    tell(*state, BuildHistoryEventType::STARTED, record);
}

Result<> History::store_log(sys::Fd journal, Record& record) {
    codec::Sha256 hash;
    std::int64_t size = 0;
    const std::string temporary = "blobs/" + codec::sha256_of(record.ref()).hex() + ".new";
    {
        const sys::Fd out = TRY(dir_.open(temporary, O_WRONLY | O_CREAT | O_TRUNC, sys::Follow::no, 0600));
        std::vector<std::byte> buffer(256 << 10);
        for (;;) {
            const ssize_t got = ::pread(journal.get(), buffer.data(), buffer.size(), size);
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) return fail_errno(errno, "read the log of the build");
            if (got == 0) break;
            const std::span<const std::byte> part(buffer.data(), static_cast<std::size_t>(got));
            hash.update(part);
            TRY(sys::write_all(out.get(), part));
            size += got;
        }
    }
    const Digest digest = hash.finish();
    const std::string name = "blobs/" + digest.hex();
    if (::renameat(dir_.fd(), temporary.c_str(), dir_.fd(), name.c_str()) != 0)
        return fail_errno(errno, "rename " + name);
    record.mutable_logs()->set_media_type(kStatusMediaType);
    record.mutable_logs()->set_digest(digest.to_string());
    record.mutable_logs()->set_size(size);
    return {};
}

void History::attach(const std::string& ref, const std::string& platform, std::string_view predicate_type,
                     const std::string& predicate) {
    const Digest digest = codec::sha256_of(predicate);
    if (const auto written = write_file(dir_, "blobs/" + digest.hex(), predicate); !written) {
        log::warn("provenance is not in the history", {{"ref", ref}, {"error", written.error().to_string()}});
        return;
    }
    auto state = state_.lock();
    const auto at = state->active.find(ref);
    if (at == state->active.end()) return;
    auto record = std::make_shared<Record>(*at->second);
    auto& result = platform.empty() ? *record->mutable_result() : (*record->mutable_results())[platform];
    put_descriptor({.media_type = kAttestationMediaType,
                    .digest = digest,
                    .size = predicate.size(),
                    .urls = {},
                    .annotations = {{kPredicateType, std::string(predicate_type)}},
                    .data = {},
                    .platform = std::nullopt,
                    .artifact_type = {}},
                   *result.add_attestations());
    at->second = std::move(record);
}

void History::complete(const std::string& ref, const grpc::Status& status,
                       const moby::buildkit::v1::SolveResponse& response, BuildProgress& progress) {
    std::shared_ptr<Record> record;
    {
        auto state = state_.lock();
        const auto at = state->active.find(ref);
        if (at == state->active.end()) return;
        record = std::make_shared<Record>(*at->second);
    }
    detail::put(clock_.now(), *record->mutable_completedat());
    *record->mutable_exporterresponse() = response.exporterresponse();
    if (!status.ok()) {
        if (!record->mutable_error()->ParseFromString(status.error_details())) record->mutable_error()->Clear();
        record->mutable_error()->set_code(status.error_code());
        record->mutable_error()->set_message(status.error_message());
    }
    const StepCounts counts = progress.counts();
    record->set_numtotalsteps(counts.total);
    record->set_numcompletedsteps(counts.completed);
    record->set_numcachedsteps(counts.cached);
    record->set_numwarnings(counts.warnings);
    record->set_generation(record->generation() + 1);
    put_result(*record);
    Result<> written = [&]() -> Result<> {
        auto journal = TRY(progress.duplicate_journal());
        TRY(store_log(std::move(journal), *record));
        return save(*record);
    }();
    if (!written) log::warn("a build is not in the history", {{"ref", ref}, {"error", written.error().to_string()}});
    auto state = state_.lock();
    state->active.erase(ref);
    state->done[ref] = record;
    tell(*state, BuildHistoryEventType::COMPLETE, record);
    forget_old(*state);
}

void History::forget(State& state, const std::string& ref) {
    const auto at = state.done.find(ref);
    if (at == state.done.end()) return;
    const std::shared_ptr<const Record> record = at->second;
    state.done.erase(at);
    static_cast<void>(dir_.remove_all(record_name(ref)));
    std::vector<std::string> kept;
    for (const auto& [other, one] : state.done) {
        for (auto& blob : blobs_of(*one)) kept.push_back(std::move(blob));
    }
    for (const auto& blob : blobs_of(*record)) {
        const auto digest = Digest::parse(blob);
        if (digest && std::find(kept.begin(), kept.end(), blob) == kept.end())
            static_cast<void>(dir_.remove_all("blobs/" + digest->hex()));
    }
    tell(state, BuildHistoryEventType::DELETED, record);
}

void History::forget_old(State& state) {
    if (state.done.size() <= limits_.max_records) return;
    std::vector<std::pair<Timestamp, std::string>> unpinned;
    for (const auto& [ref, record] : state.done) {
        if (!record->pinned()) unpinned.emplace_back(detail::get(record->completedat()), ref);
    }
    std::sort(unpinned.rbegin(), unpinned.rend());
    for (std::size_t i = limits_.max_records; i < unpinned.size(); ++i) {
        if (clock_.now() - unpinned[i].first > limits_.max_age) forget(state, unpinned[i].second);
    }
}

Result<> History::update(const moby::buildkit::v1::UpdateBuildHistoryRequest& request) {
    auto state = state_.lock();
    const auto at = state->done.find(request.ref());
    if (at == state->done.end()) {
        if (request.finalize() && state->active.contains(request.ref())) return {};
        return fail(Code::not_found, Blame::user, "no build {} in the history", request.ref());
    }
    if (request.delete_()) {
        forget(*state, request.ref());
        return {};
    }
    if (request.finalize()) return {};  // no trace is being recorded that could end early
    auto record = std::make_shared<Record>(*at->second);
    record->set_pinned(request.pinned());
    record->set_generation(record->generation() + 1);
    TRY(save(*record));
    at->second = record;
    tell(*state, BuildHistoryEventType::COMPLETE, record);
    return {};
}

Result<> History::listen(const moby::buildkit::v1::BuildHistoryRequest& request,
                         const std::function<bool(const Event&)>& write, const Stop& stop) {
    const std::vector<Filter> filters =
        TRY(parse_filters(std::vector<std::string>(request.filter().begin(), request.filter().end())));
    Listener listener;
    std::vector<std::shared_ptr<const Record>> now;
    {
        auto state = state_.lock();
        for (const auto& [ref, record] : state->active) now.push_back(record);
        if (!request.activeonly()) {
            for (const auto& [ref, record] : state->done) now.push_back(record);
        }
        if (!request.earlyexit()) state->listeners.push_back(&listener);
    }
    struct Leave {
        History& history;
        Listener& listener;
        ~Leave() { std::erase(history.state_.lock()->listeners, &listener); }
    } const leave{*this, listener};

    std::vector<std::shared_ptr<const Record>> chosen;
    for (const auto& record : now) {
        if (TRY(wanted(request, filters, *record, clock_.now()))) chosen.push_back(record);
    }
    std::sort(chosen.begin(), chosen.end(),
              [](const auto& a, const auto& b) { return detail::get(a->createdat()) < detail::get(b->createdat()); });
    if (request.limit() > 0 && chosen.size() > static_cast<std::size_t>(request.limit()))
        chosen.erase(chosen.begin(), chosen.end() - request.limit());
    for (const auto& record : chosen) {
        Event event;
        event.set_type(record->has_completedat() ? BuildHistoryEventType::COMPLETE : BuildHistoryEventType::STARTED);
        *event.mutable_record() = *record;
        if (!write(event)) return {};
    }
    if (request.earlyexit()) return {};
    for (;;) {
        std::shared_ptr<const Event> event;
        {
            auto state = state_.lock();
            if (!state.wait(stop, [&] { return listener.lost || !listener.queue.empty(); })) return cancelled();
            if (listener.queue.empty()) {
                return fail(Code::resource_exhausted, Blame::world, "the listener does not keep up with the builds");
            }
            event = listener.queue.front();
            listener.queue.pop_front();
        }
        if (request.activeonly() && event->type() == BuildHistoryEventType::DELETED) continue;
        if (!TRY(wanted(request, filters, event->record(), clock_.now()))) continue;
        if (!write(*event)) return {};
    }
}

Result<sys::Fd> History::open_log(const std::string& ref) {
    std::string digest;
    {
        auto state = state_.lock();
        const auto at = state->done.find(ref);
        if (at == state->done.end() || !at->second->has_logs())
            return fail(Code::not_found, Blame::user, "no such job {}", ref);
        digest = at->second->logs().digest();
    }
    return open_blob(TRY(Digest::parse(digest)));
}

Result<sys::Fd> History::open_blob(const Digest& digest) {
    return dir_.open("blobs/" + digest.hex(), O_RDONLY, sys::Follow::no, 0);
}

}  // namespace cooper::daemon
