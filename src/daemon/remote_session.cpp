#include "daemon/remote_session.hpp"

#include "base/text.hpp"
#include "daemon/agent_socket.hpp"
#include "daemon/detail/call_packets.hpp"
#include "daemon/local_slots.hpp"
#include "filesync/receive.hpp"
#include "filesync/send.hpp"
#include "proto/content.pb.h"
#include "proto/filesync.pb.h"
#include "proto/health.pb.h"
#include "proto/secrets.pb.h"
#include "proto/sshforward.pb.h"
#include "proto/upload.pb.h"
#include "rpc/bytes_message.hpp"
#include "rpc/message_stream.hpp"

#include <algorithm>
#include <array>
#include <grpcpp/channel.h>

namespace cooper::daemon {

namespace {

namespace content = containerd::services::content::v1;

constexpr std::size_t kMaxSecret = 512U << 10U;
// Of an exported file, in one message. BuildKit's clients take up to 16 MiB; larger pieces only cost memory.
constexpr std::size_t kExportPiece = 512U << 10U;
constexpr std::size_t kContentPiece = 1U << 20U;

constexpr const char* kExporterId = "buildkit-attachable-exporter-id";
constexpr const char* kStoreId = "buildkit-attachable-store-id";

Error lost(const std::string& session_id, const std::string& why) {
    return fail(Code::unavailable, Blame::world, "the client of the build has gone: {}", why)
        .with_detail(SessionLost{session_id});
}

// What a call to the client failed with, seen from the build.
Error seen_from_build(const std::string& session_id, Error error, const Stop& stop) {
    if (stop.stop_requested()) return cancelled();
    // A client that ends cancels what it serves, or its connection breaks.
    const bool gone = error.code() == Code::unavailable || error.is_cancelled();
    return gone && error.find_detail<SessionLost>() == nullptr ? lost(session_id, error.to_string()) : error;
}

bool not_offered(const Error& error) { return error.code() == Code::not_found || error.code() == Code::unimplemented; }

// What is known of an image by other names than these (for a platform, say) is in the answer to the build as well.
bool is_header_name(std::string_view key) {
    return std::ranges::all_of(key, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
    });
}

template <class Answer, class Request>
Result<Answer> ask(const RemoteSession& session, const char* method, const Request& request, rpc::Metadata metadata,
                   const Stop& stop) {
    const auto bytes =
        rpc::ask(session.channel(), {method, request.SerializeAsString(), std::move(metadata), {}}, stop);
    if (!bytes) return seen_from_build(session.id(), bytes.error(), stop);
    Answer answer;
    if (!answer.ParseFromString(*bytes)) {
        return fail(Code::internal, Blame::world, "the client answers {} with a malformed message", method);
    }
    return answer;
}

class ReceivedFiles final : public session::LocalFiles {
public:
    explicit ReceivedFiles(std::unique_ptr<LocalSlot> slot) : slot_(std::move(slot)) {}
    [[nodiscard]] const std::string& host_path() const override { return slot_->host_path(); }

private:
    std::unique_ptr<LocalSlot> slot_;
};

class SentFile final : public session::Session::FileExport {
public:
    SentFile(std::string session_id, std::unique_ptr<rpc::RawCall> call, Stop stop)
        : session_id_(std::move(session_id)), call_(std::move(call)), stop_(std::move(stop)) {
        pending_.reserve(kExportPiece);
    }
    // Without finish() the call is cancelled, and the client keeps no file that looks complete.

    Result<> write(std::span<const std::byte> data) override {
        while (!data.empty()) {
            const std::size_t size = std::min(kExportPiece - pending_.size(), data.size());
            pending_.append(as_text(data.first(size)));
            data = data.subspan(size);
            if (pending_.size() == kExportPiece) TRY(flush());
        }
        return {};
    }

    Result<> finish() override {
        TRY(flush());
        if (unwanted_) return {};
        TRY(call_->close_write());
        return ended();
    }

private:
    Result<> flush() {
        if (pending_.empty() || unwanted_) {
            pending_.clear();
            return {};
        }
        rpc::wrap_bytes(pending_, message_);
        pending_.clear();
        if (call_->write(message_)) return {};
        TRY(ended());
        if (unwanted_) return {};
        return lost(session_id_, "it ended the call before it had the whole file");
    }
    // How the call ended. A client that has the file already says so, and that is no mistake.
    Result<> ended() {
        const auto end = call_->finish();
        if (end) return {};
        unwanted_ = end.error().code() == Code::already_exists;
        if (unwanted_) return {};
        return seen_from_build(session_id_, end.error(), stop_);
    }

    std::string session_id_;
    std::unique_ptr<rpc::RawCall> call_;
    Stop stop_;
    std::string pending_;
    std::string message_;
    bool unwanted_ = false;
};

// The messages of a call as one stream of bytes: a Message has `data`, and check() says whether it may come now.
template <typename Message, typename Check>
class ReadMessages final : public ByteSource {
public:
    ReadMessages(std::string session_id, std::unique_ptr<rpc::RawCall> call, Stop stop, Check check)
        : session_id_(std::move(session_id)),
          call_(std::move(call)),
          stop_(std::move(stop)),
          check_(std::move(check)) {}

    Result<std::size_t> read(std::span<std::byte> buffer) override {
        while (used_ == piece_.data().size()) {
            const auto more = call_->read(message_);
            if (!more) return seen_from_build(session_id_, more.error(), stop_);
            if (!*more) return std::size_t{0};
            used_ = 0;
            if (!piece_.ParseFromString(message_))
                return fail(Code::internal, Blame::world, "the client sends a malformed piece of a stream");
            TRY(check_(piece_));
        }
        const std::size_t size = std::min(buffer.size(), piece_.data().size() - used_);
        std::copy_n(as_bytes(piece_.data()).begin() + static_cast<std::ptrdiff_t>(used_), size, buffer.begin());
        used_ += size;
        return size;
    }

private:
    std::string session_id_;
    std::unique_ptr<rpc::RawCall> call_;
    Stop stop_;
    Check check_;
    std::string message_;
    Message piece_;
    std::size_t used_ = 0;
};

template <typename Message, typename Check>
std::unique_ptr<ByteSource> read_messages(std::string session_id, std::unique_ptr<rpc::RawCall> call, Stop stop,
                                          Check check) {
    return std::make_unique<ReadMessages<Message, Check>>(std::move(session_id), std::move(call), std::move(stop),
                                                          std::move(check));
}

// One blob into the client's store, by containerd's protocol: STAT says what is coming and is told what is there,
// WRITE sends a piece, COMMIT makes it a blob. Each has an answer.
class BlobWriter {
public:
    BlobWriter(rpc::RawCall& call, const Digest& digest, std::uint64_t size_bytes)
        : call_(call), digest_(digest), size_bytes_(size_bytes) {}

    Result<> write(ByteSource& source, const Stop& stop) {
        content::WriteContentRequest request;
        request.set_action(content::STAT);
        request.set_ref("cooper-" + digest_.to_string());
        request.set_total(static_cast<std::int64_t>(size_bytes_));
        request.set_expected(digest_.to_string());
        std::uint64_t offset = TRY(exchange(request));
        if (offset > size_bytes_) return fail(Code::internal, Blame::world, "the client has more than the whole blob");
        TRY(skip(source, offset));

        request.set_action(content::WRITE);
        std::string piece(kContentPiece, '\0');
        while (true) {
            TRY(check_stop(stop));
            const std::size_t got = TRY(source.read(std::as_writable_bytes(std::span(piece))));
            if (got == 0) break;
            request.set_offset(static_cast<std::int64_t>(offset));
            request.set_data(piece.data(), got);
            offset += got;
            if (TRY(exchange(request)) != offset) {
                return fail(Code::data_loss, Blame::world, "the client has lost bytes of a blob");
            }
        }
        if (offset != size_bytes_) {
            return fail(Code::internal, Blame::cooper, "blob {} has {} bytes instead of {}", digest_.to_string(),
                        offset, size_bytes_);
        }
        request.clear_data();
        request.set_offset(static_cast<std::int64_t>(offset));
        request.set_action(content::COMMIT);
        TRY(exchange(request));
        return {};
    }

private:
    // The offset in the answer.
    Result<std::uint64_t> exchange(const content::WriteContentRequest& request) {
        std::string message = request.SerializeAsString();
        if (!call_.write(message)) {
            TRY(call_.finish());
            return fail(Code::unavailable, Blame::world, "the client ended the call before it had the whole blob");
        }
        content::WriteContentResponse answer;
        if (!TRY(call_.read(message))) {
            return fail(Code::unavailable, Blame::world, "the client ended the call before it had the whole blob");
        }
        if (!answer.ParseFromString(message) || answer.offset() < 0) {
            return fail(Code::internal, Blame::world, "the client answers a piece of a blob with a malformed message");
        }
        return static_cast<std::uint64_t>(answer.offset());
    }
    static Result<> skip(ByteSource& source, std::uint64_t count) {
        std::array<std::byte, 32768> buffer;
        while (count > 0) {
            const auto wanted = std::span(buffer).first(std::min<std::uint64_t>(count, buffer.size()));
            const std::size_t got = TRY(source.read(wanted));
            if (got == 0) return fail(Code::internal, Blame::cooper, "a blob is shorter than it was");
            count -= got;
        }
        return {};
    }

    rpc::RawCall& call_;
    const Digest& digest_;
    std::uint64_t size_bytes_;
};

}  // namespace

RemoteSession::RemoteSession(SessionInfo info, std::shared_ptr<grpc::Channel> channel, LocalSlots& slots,
                             std::string scratch_dir)
    : info_(std::move(info)), channel_(std::move(channel)), slots_(slots), scratch_dir_(std::move(scratch_dir)) {}

RemoteSession::~RemoteSession() = default;

bool RemoteSession::serves(const std::string& lower_case_method) const {
    return info_.methods.contains(lower_case_method);
}

Result<> RemoteSession::check_health(std::chrono::milliseconds timeout, Stop stop) {
    const grpc::health::v1::HealthCheckRequest request;
    TRY(rpc::ask(channel_, {"/grpc.health.v1.Health/Check", request.SerializeAsString(), {}, timeout},
                 std::move(stop)));
    return {};
}

Result<std::shared_ptr<session::LocalFiles>> RemoteSession::local_files(const session::LocalRequest& request,
                                                                        VertexProgress& progress, Stop stop) {
    if (!serves("/moby.filesync.v1.filesync/diffcopy")) return Session::local_files(request, progress, stop);
    // As BuildKit has it: whoever sends the same name under the same key sends nearly the same.
    auto slot = TRY(slots_.acquire(fmt::format("{}:{}:{}", request.name, request.shared_key, info_.shared_key), stop));
    rpc::Metadata metadata;
    rpc::add_encoded(metadata, "dir-name", {request.name});
    rpc::add_encoded(metadata, "include-patterns", request.include);
    rpc::add_encoded(metadata, "exclude-patterns", request.exclude);
    rpc::add_encoded(metadata, "followpaths", request.follow_paths);
    const auto call = rpc::RawCall::start(channel_, "/moby.filesync.v1.FileSync/DiffCopy", metadata, stop);
    detail::CallPackets packets(*call);
    const std::string status = fmt::format("transferring {}:", request.name);
    filesync::ReceiveOptions options;
    options.devices = filesync::Devices::leave_out;
    // A file takes whole blocks.
    options.before_write = [&](std::uint64_t bytes) { return slots_.charge((bytes + 4095) / 4096 * 4096, stop); };
    options.progress = [&](std::uint64_t bytes) {
        progress.status(status, status, static_cast<std::int64_t>(bytes), 0, false);
    };
    const auto received = filesync::receive(packets, slot->files(), options, stop);
    if (!received) {
        return seen_from_build(id(), received.error(), stop)
            .with_context(fmt::format("files of the client's directory {}", quoted(request.name)));
    }
    progress.status(status, status, static_cast<std::int64_t>(received->bytes), 0, true);
    return std::shared_ptr<session::LocalFiles>(std::make_shared<ReceivedFiles>(std::move(slot)));
}

Result<> RemoteSession::export_directory(int exporter, const std::vector<session::DirectoryExport>& trees,
                                         const session::DirectoryOptions& options, VertexProgress& progress,
                                         Stop stop) {
    if (!serves("/moby.filesync.v1.filesend/diffcopy")) {
        return Session::export_directory(exporter, trees, options, progress, stop);
    }
    rpc::Metadata metadata = {{kExporterId, std::to_string(exporter)}};
    // The client may remove what is not sent only when it hears that all platforms come at once.
    if (options.remove_others || trees.size() > 1) metadata.emplace_back("buildkit-exporter-multi-platform", "1");
    const auto call = rpc::RawCall::start(channel_, "/moby.filesync.v1.FileSend/DiffCopy", metadata, stop);
    detail::CallPackets packets(*call);
    std::vector<filesync::SentTree> sent;
    for (const auto& tree : trees) sent.push_back({tree.name, tree.tree});
    const auto done = filesync::send(packets, sent, {.epoch_seconds = options.epoch_seconds}, stop);
    if (!done) {
        // How the call ended says more than that it did.
        const auto end = call->finish();
        const Error& why = end || end.error().is_cancelled() ? done.error() : end.error();
        return seen_from_build(id(), why, stop).with_context("send files to the client");
    }
    TRY(call->close_write());
    if (const auto end = call->finish(); !end) {
        return seen_from_build(id(), end.error(), stop).with_context("send files to the client");
    }
    progress.status("copying files", "copying files", static_cast<std::int64_t>(done->bytes),
                    static_cast<std::int64_t>(done->bytes), true);
    return {};
}

Result<std::unique_ptr<session::Session::FileExport>> RemoteSession::export_file(
    int exporter, const std::map<std::string, std::string>& metadata, Stop stop) {
    if (!serves("/moby.filesync.v1.filesend/diffcopy")) return Session::export_file(exporter, metadata, stop);
    rpc::Metadata headers = {{kExporterId, std::to_string(exporter)}};
    for (const auto& [key, value] : metadata) {
        if (is_header_name(key)) rpc::add_encoded(headers, "exporter-md-" + key, {value});
    }
    auto call = rpc::RawCall::start(channel_, "/moby.filesync.v1.FileSend/DiffCopy", headers, stop);
    return std::unique_ptr<FileExport>(std::make_unique<SentFile>(id(), std::move(call), std::move(stop)));
}

Result<std::unique_ptr<ByteSource>> RemoteSession::read_content(const std::string& store, const Digest& digest,
                                                                std::uint64_t offset, Stop stop) {
    // What is missing is an error here, not in the middle of reading.
    TRY(content_size(store, digest, stop));
    content::ReadContentRequest request;
    request.set_digest(digest.to_string());
    request.set_offset(static_cast<std::int64_t>(offset));
    auto call =
        rpc::RawCall::start(channel_, "/containerd.services.content.v1.Content/Read", {{kStoreId, store}}, stop);
    // When it fails, reading says why.
    if (call->write(request.SerializeAsString())) TRY(call->close_write());
    return read_messages<content::ReadContentResponse>(
        id(), std::move(call), std::move(stop),
        [expected = offset](const content::ReadContentResponse& piece) mutable -> Result<> {
            if (piece.offset() < 0 || static_cast<std::uint64_t>(piece.offset()) != expected) {
                return fail(Code::data_loss, Blame::world, "the client sends bytes from {} of a blob instead of {}",
                            piece.offset(), expected);
            }
            expected += piece.data().size();
            return {};
        });
}

Result<std::unique_ptr<ByteSource>> RemoteSession::read_upload(const std::string& name, Stop stop) {
    auto call = rpc::RawCall::start(channel_, "/moby.upload.v1.Upload/Pull",
                                    {{"urlpath", "/" + name}, {"urlhost", "buildkit-session"}}, stop);
    // Nothing is said on this side; when that fails, reading says why.
    static_cast<void>(call->close_write());
    return read_messages<moby::upload::v1::BytesMessage>(
        id(), std::move(call), std::move(stop), [](const moby::upload::v1::BytesMessage&) { return Result<>(); });
}

Result<std::uint64_t> RemoteSession::content_size(const std::string& store, const Digest& digest, Stop stop) {
    content::InfoRequest request;
    request.set_digest(digest.to_string());
    const auto answer = ask<content::InfoResponse>(*this, "/containerd.services.content.v1.Content/Info", request,
                                                   {{kStoreId, store}}, stop);
    if (!answer && answer.error().code() == Code::unimplemented) return Session::content_size(store, digest, stop);
    if (!answer) return answer.error().with_context(fmt::format("content store {} of the client", quoted(store)));
    if (answer->info().digest() != digest.to_string() || answer->info().size() < 0) {
        return fail(Code::internal, Blame::world, "the client describes another blob than {}", digest.to_string());
    }
    return static_cast<std::uint64_t>(answer->info().size());
}

Result<> RemoteSession::write_content(const std::string& store, const Digest& digest, std::uint64_t size_bytes,
                                      ByteSource& source, Stop stop) {
    const auto call =
        rpc::RawCall::start(channel_, "/containerd.services.content.v1.Content/Write", {{kStoreId, store}}, stop);
    auto written = BlobWriter(*call, digest, size_bytes).write(source, stop);
    if (!written && written.error().code() == Code::already_exists) return {};
    if (!written) {
        return seen_from_build(id(), written.error(), stop)
            .with_context(fmt::format("content store {} of the client", quoted(store)));
    }
    TRY(call->close_write());
    if (const auto end = call->finish(); !end) return seen_from_build(id(), end.error(), stop);
    return {};
}

Result<registry::Credential> RemoteSession::find_credential(const std::string& host, Stop stop) {
    moby::filesync::v1::CredentialsRequest request;
    // BuildKit's clients know Docker Hub by the name of its server.
    request.set_host(host == "docker.io" || host == "index.docker.io" ? "registry-1.docker.io" : host);
    const auto answer =
        ask<moby::filesync::v1::CredentialsResponse>(*this, "/moby.filesync.v1.Auth/Credentials", request, {}, stop);
    if (!answer && not_offered(answer.error())) return registry::Credential{};
    if (!answer) return answer.error().with_context(fmt::format("credentials of the client for {}", host));
    registry::Credential credential;
    if (answer->username().empty()) {
        credential.identity_token = answer->secret();
    } else {
        credential.username = answer->username();
        credential.password = answer->secret();
    }
    return credential;
}

Result<std::optional<session::Secret>> RemoteSession::find_secret(const std::string& id, Stop stop) {
    moby::buildkit::secrets::v1::GetSecretRequest request;
    request.set_id(id);
    auto answer = ask<moby::buildkit::secrets::v1::GetSecretResponse>(
        *this, "/moby.buildkit.secrets.v1.Secrets/GetSecret", request, {}, stop);
    if (!answer && not_offered(answer.error())) return std::optional<session::Secret>{};
    if (!answer) return answer.error().with_context(fmt::format("secret {}", quoted(id)));
    if (answer->data().size() > kMaxSecret) return bad_input("secret {} is larger than 512 KiB", quoted(id));
    return std::optional<session::Secret>(std::in_place, std::move(*answer->mutable_data()));
}

Result<std::unique_ptr<session::SshSocket>> RemoteSession::open_ssh(const std::string& id,
                                                                    const session::SocketOwner& owner, Stop stop) {
    moby::sshforward::v1::CheckAgentRequest request;
    request.set_id(id);
    const auto answer =
        ask<moby::sshforward::v1::CheckAgentResponse>(*this, "/moby.sshforward.v1.SSH/CheckAgent", request, {}, stop);
    // BuildKit's clients have no code for an agent they do not know.
    const bool unknown = !answer && (not_offered(answer.error()) || answer.error().code() == Code::unknown);
    if (unknown) return std::unique_ptr<session::SshSocket>{};
    if (!answer) return answer.error().with_context(fmt::format("SSH agent {} of the client", quoted(id)));
    auto socket = TRY_CONTEXT(AgentSocket::create(channel_, id, scratch_dir_, owner), "SSH agent {}", quoted(id));
    return std::unique_ptr<session::SshSocket>(std::move(socket));
}

}  // namespace cooper::daemon
