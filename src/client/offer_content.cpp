// Stores of blobs: OCI layouts that the daemon reads (named contexts, local caches) or fills (exports, local caches).
#include "base/text.hpp"
#include "client/detail/services.hpp"
#include "codec/sha256.hpp"
#include "proto/content.grpc.pb.h"
#include "rpc/status.hpp"
#include "sys/rooted_dir.hpp"

#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <grpcpp/server_context.h>
#include <unistd.h>

namespace cooper::client::detail {

namespace {

namespace content = containerd::services::content::v1;

constexpr std::size_t kReadBytes = 1UL << 20U;

std::string blob_path(const Digest& digest) {
    const std::string text = digest.to_string();
    const std::size_t colon = text.find(':');
    return "blobs/" + text.substr(0, colon) + "/" + text.substr(colon + 1);
}
// A write in progress is named by whoever writes.
std::string ingest_path(const std::string& ref) {
    codec::Sha256 hash;
    hash.update(as_bytes(ref));
    return "ingest/" + hash.finish().hex();
}

class ContentService final : public content::Content::Service {
public:
    explicit ContentService(Shared& shared) : shared_(shared) {}

    grpc::Status Info(grpc::ServerContext* context, const content::InfoRequest* request,
                      content::InfoResponse* response) override {
        const auto size = size_of(*context, request->digest());
        if (!size) return rpc::to_status(size.error());
        response->mutable_info()->set_digest(request->digest());
        response->mutable_info()->set_size(static_cast<std::int64_t>(*size));
        return grpc::Status::OK;
    }

    grpc::Status Read(grpc::ServerContext* context, const content::ReadContentRequest* request,
                      grpc::ServerWriter<content::ReadContentResponse>* writer) override {
        const Result<> result = read(*context, *request, *writer);
        return result ? grpc::Status::OK : rpc::to_status(result.error());
    }

    grpc::Status Status(grpc::ServerContext* context, const content::StatusRequest* request,
                        content::StatusResponse* response) override {
        const auto dir = store_of(*context, Access::read);
        if (!dir) return rpc::to_status(dir.error());
        const auto st = dir->stat(ingest_path(request->ref()), sys::Follow::no);
        if (!st) return rpc::to_status(fail(Code::not_found, Blame::world, "no write {}", quoted(request->ref())));
        response->mutable_status()->set_ref(request->ref());
        response->mutable_status()->set_offset(st->st_size);
        return grpc::Status::OK;
    }

    grpc::Status Abort(grpc::ServerContext* context, const content::AbortRequest* request,
                       google::protobuf::Empty* /*response*/) override {
        const auto dir = store_of(*context, Access::write);
        if (!dir) return rpc::to_status(dir.error());
        const auto removed = dir->remove_all(ingest_path(request->ref()));
        return removed ? grpc::Status::OK : rpc::to_status(removed.error());
    }

    grpc::Status Write(
        grpc::ServerContext* context,
        grpc::ServerReaderWriter<content::WriteContentResponse, content::WriteContentRequest>* stream) override {
        const Result<> result = write(*context, *stream);
        if (result) return grpc::Status::OK;
        if (result.error().code() != Code::already_exists) static_cast<void>(shared_.keep(result.error()));
        return rpc::to_status(result.error());
    }

private:
    enum class Access : std::uint8_t { read, write };

    Result<sys::RootedDir> store_of(const grpc::ServerContext& context, Access access) const {
        const rpc::Metadata metadata = rpc::metadata_of(context);
        const std::string id(rpc::find_value(metadata, "buildkit-attachable-store-id"));
        const auto found = shared_.offer.stores.find(id);
        if (found == shared_.offer.stores.end()) {
            return fail(Code::not_found, Blame::world, "no content store {}", quoted(id));
        }
        if (access == Access::write) {
            std::error_code error;
            std::filesystem::create_directories(found->second, error);
            if (error) return fail_errno(error.value(), found->second);
        }
        return sys::RootedDir::open_host(found->second);
    }

    Result<std::uint64_t> size_of(const grpc::ServerContext& context, const std::string& text) const {
        const Digest digest = TRY(Digest::parse(text));
        const sys::RootedDir dir = TRY(store_of(context, Access::read));
        const auto st = dir.stat(blob_path(digest), sys::Follow::no);
        // The daemon counts on it from here on: sweep_layout() spares it. Not where it may not be written to.
        if (st) static_cast<void>(::utimensat(dir.fd(), blob_path(digest).c_str(), nullptr, AT_SYMLINK_NOFOLLOW));
        if (!st || !S_ISREG(st->st_mode)) return fail(Code::not_found, Blame::world, "content {} not found", text);
        return static_cast<std::uint64_t>(st->st_size);
    }

    Result<> read(const grpc::ServerContext& context, const content::ReadContentRequest& request,
                  grpc::ServerWriter<content::ReadContentResponse>& writer) const {
        const auto size = static_cast<std::int64_t>(TRY(size_of(context, request.digest())));
        const sys::RootedDir dir = TRY(store_of(context, Access::read));
        const Digest digest = TRY(Digest::parse(request.digest()));
        const sys::Fd fd = TRY(dir.open(blob_path(digest), O_RDONLY, sys::Follow::no, 0));
        if (request.offset() < 0 || request.offset() > size || request.size() < 0) {
            return fail(Code::out_of_range, Blame::world, "offset {} of {} bytes", request.offset(), size);
        }
        std::int64_t at = request.offset();
        const std::int64_t end = request.size() == 0 ? size : std::min(size, at + request.size());
        Bytes buffer(kReadBytes);
        content::ReadContentResponse response;
        while (at < end) {
            TRY(check_stop(shared_.stop));
            const auto wanted = static_cast<std::size_t>(std::min<std::int64_t>(end - at, kReadBytes));
            const ssize_t n = ::pread(fd.get(), buffer.data(), wanted, at);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) return fail_errno(errno, "read " + request.digest());
            if (n == 0) break;
            response.set_offset(at);
            response.set_data(buffer.data(), static_cast<std::size_t>(n));
            if (!writer.Write(response)) return cancelled();
            at += n;
        }
        return {};
    }

    // One write: begun or found by its name, continued, committed under the digest of its bytes.
    Result<> write(const grpc::ServerContext& context,
                   grpc::ServerReaderWriter<content::WriteContentResponse, content::WriteContentRequest>& stream) {
        const sys::RootedDir dir = TRY(store_of(context, Access::write));
        content::WriteContentRequest request;
        content::WriteContentResponse response;
        sys::Fd fd;
        std::string ref;
        std::string expected;
        std::int64_t offset = 0;
        std::int64_t total = 0;
        while (stream.Read(&request)) {
            TRY(check_stop(shared_.stop));
            if (!fd.valid()) {
                if (request.ref().empty()) return bad_input("a write of content without a name");
                ref = request.ref();
                TRY(dir.make_dirs("ingest", 0755));
                fd = TRY(dir.open(ingest_path(ref), O_RDWR | O_CREAT, sys::Follow::no, 0644));
                offset = ::lseek(fd.get(), 0, SEEK_END);
            }
            if (!request.expected().empty()) expected = request.expected();
            if (request.total() > 0) total = request.total();
            if (!expected.empty() && size_of(context, expected)) {
                static_cast<void>(dir.remove_all(ingest_path(ref)));
                return fail(Code::already_exists, Blame::world, "content {} already exists", expected);
            }
            const bool commit = request.action() == content::COMMIT;
            if (request.action() != content::STAT) {
                if (request.offset() != offset && !(commit && request.data().empty() && request.offset() == 0)) {
                    if (request.offset() > offset || request.offset() < 0) {
                        return fail(Code::out_of_range, Blame::world, "offset {} of a write that is at {}",
                                    request.offset(), offset);
                    }
                    if (::ftruncate(fd.get(), request.offset()) != 0) return fail_errno(errno, "truncate");
                    offset = ::lseek(fd.get(), request.offset(), SEEK_SET);
                }
                TRY_CONTEXT(sys::write_all(fd.get(), request.data()), "write content");
                offset += static_cast<std::int64_t>(request.data().size());
            }
            if (commit) {
                if (total > 0 && total != offset) {
                    return fail(Code::failed_precondition, Blame::world, "{} bytes of content, want {}", offset, total);
                }
                const std::string digest = TRY(digest_of(fd.get()));
                if (!expected.empty() && digest != expected) {
                    return fail(Code::failed_precondition, Blame::world, "content has digest {}, want {}", digest,
                                expected);
                }
                TRY(place(dir, ref, TRY(Digest::parse(digest))));
                response.set_digest(digest);
            }
            response.set_action(request.action());
            response.set_offset(offset);
            response.set_total(total);
            if (!stream.Write(response)) return cancelled();
            if (commit) return {};
        }
        return {};
    }

    static Result<std::string> digest_of(int fd) {
        codec::Sha256 hash;
        Bytes buffer(kReadBytes);
        for (off_t at = 0;;) {
            const ssize_t n = ::pread(fd, buffer.data(), buffer.size(), at);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) return fail_errno(errno, "read content");
            if (n == 0) return hash.finish().to_string();
            hash.update(std::span<const std::byte>(buffer).first(static_cast<std::size_t>(n)));
            at += n;
        }
    }

    static Result<> place(const sys::RootedDir& dir, const std::string& ref, const Digest& digest) {
        const std::string path = blob_path(digest);
        TRY(dir.make_dirs(path.substr(0, path.rfind('/')), 0755));
        const auto from = TRY(dir.parent_of(ingest_path(ref)));
        const auto to = TRY(dir.parent_of(path));
        if (::renameat(from.dir.get(), from.name.c_str(), to.dir.get(), to.name.c_str()) != 0) {
            return fail_errno(errno, "keep content");
        }
        return {};
    }

    Shared& shared_;
};

}  // namespace

std::unique_ptr<grpc::Service> content_service(Shared& shared) { return std::make_unique<ContentService>(shared); }

}  // namespace cooper::client::detail
