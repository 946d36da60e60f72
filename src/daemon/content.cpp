#include "base/result.hpp"
#include "daemon/control.hpp"
#include "daemon/detail/timestamps.hpp"
#include "engine/engine.hpp"
#include "proto/content.grpc.pb.h"
#include "rpc/status.hpp"

#include <algorithm>
#include <cerrno>
#include <grpcpp/grpcpp.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::daemon {

namespace {

namespace api = containerd::services::content::v1;
using Context = grpc::ServerContext;

constexpr std::size_t kChunk = 1 << 20;

grpc::Status read_only() {
    return {grpc::StatusCode::FAILED_PRECONDITION, "the content of the daemon is to be read only"};
}

class ContentService final : public api::Content::Service {
public:
    ContentService(History& history, engine::Engine& engine) : history_(history), engine_(engine) {}

    grpc::Status Info(Context* /*context*/, const api::InfoRequest* request, api::InfoResponse* response) override {
        const auto blob = open(request->digest());
        if (!blob) return rpc::to_status(blob.error());
        auto* info = response->mutable_info();
        info->set_digest(request->digest());
        info->set_size(blob->status.st_size);
        detail::put(changed(*blob), *info->mutable_created_at());
        detail::put(changed(*blob), *info->mutable_updated_at());
        return grpc::Status::OK;
    }

    grpc::Status Read(Context* /*context*/, const api::ReadContentRequest* request,
                      grpc::ServerWriter<api::ReadContentResponse>* writer) override {
        const auto blob = open(request->digest());
        if (!blob) return rpc::to_status(blob.error());
        const std::int64_t whole = blob->status.st_size;
        if (request->offset() < 0 || request->offset() > whole || request->size() < 0) {
            return {grpc::StatusCode::OUT_OF_RANGE, "the blob has " + std::to_string(whole) + " bytes"};
        }
        std::int64_t at = request->offset();
        const std::int64_t end = request->size() == 0 ? whole : at + std::min(request->size(), whole - at);
        std::string buffer;
        while (at < end) {
            buffer.resize(std::min(kChunk, static_cast<std::size_t>(end - at)));
            const ssize_t got = ::pread(blob->file.get(), buffer.data(), buffer.size(), at);
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) return {grpc::StatusCode::DATA_LOSS, "the blob ends early"};
            api::ReadContentResponse response;
            response.set_offset(at);
            response.set_data(buffer.data(), static_cast<std::size_t>(got));
            if (!writer->Write(response)) return grpc::Status::CANCELLED;
            at += got;
        }
        return grpc::Status::OK;
    }

    grpc::Status List(Context* /*context*/, const api::ListContentRequest* /*request*/,
                      grpc::ServerWriter<api::ListContentResponse>* /*writer*/) override {
        return grpc::Status::OK;  // nothing is offered to be looked through
    }
    grpc::Status Status(Context* /*context*/, const api::StatusRequest* request,
                        api::StatusResponse* /*response*/) override {
        return {grpc::StatusCode::NOT_FOUND, "no write " + request->ref()};
    }
    grpc::Status ListStatuses(Context* /*context*/, const api::ListStatusesRequest* /*request*/,
                              api::ListStatusesResponse* /*response*/) override {
        return grpc::Status::OK;
    }
    grpc::Status Update(Context* /*context*/, const api::UpdateRequest* /*request*/,
                        api::UpdateResponse* /*response*/) override {
        return read_only();
    }
    grpc::Status Delete(Context* /*context*/, const api::DeleteContentRequest* /*request*/,
                        google::protobuf::Empty* /*response*/) override {
        return read_only();
    }
    grpc::Status Write(Context* /*context*/,
                       grpc::ServerReaderWriter<api::WriteContentResponse, api::WriteContentRequest>* /*s*/) override {
        return read_only();
    }
    grpc::Status Abort(Context* /*context*/, const api::AbortRequest* /*request*/,
                       google::protobuf::Empty* /*response*/) override {
        return read_only();
    }

private:
    struct Blob {
        sys::Fd file;
        struct stat status{};
    };
    Result<Blob> open(const std::string& text) {
        const Digest digest = TRY(Digest::parse(text));
        Blob blob;
        if (auto file = history_.open_blob(digest)) {
            blob.file = std::move(*file);
        } else {
            blob.file = TRY(engine_.open_blob(digest));
        }
        if (::fstat(blob.file.get(), &blob.status) != 0) return fail_errno(errno, "look at " + text);
        return blob;
    }
    static Timestamp changed(const Blob& blob) {
        return Timestamp{std::chrono::seconds(blob.status.st_mtim.tv_sec) +
                         std::chrono::nanoseconds(blob.status.st_mtim.tv_nsec)};
    }

    History& history_;
    engine::Engine& engine_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_content_service(History& history, engine::Engine& engine) {
    return std::make_unique<ContentService>(history, engine);
}

}  // namespace cooper::daemon
