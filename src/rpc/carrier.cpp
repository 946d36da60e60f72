#include "rpc/carrier.hpp"

#include "proto/control.pb.h"
#include "rpc/status.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <fcntl.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/sync_stream.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace cooper::rpc {

namespace {

// What is read at once. Larger pieces cost fewer calls, and memory for each tunnel.
constexpr std::size_t kPiece = 128U << 10U;
// Pieces below this are copied, so that a small frame does not hold a large buffer.
constexpr std::size_t kSmall = 4U << 10U;

Result<> send_all(int socket, std::span<iovec> parts) {
    while (!parts.empty()) {
        msghdr message{};
        message.msg_iov = parts.data();
        message.msg_iovlen = std::min<std::size_t>(parts.size(), IOV_MAX);
        const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR) continue;
            return fail_errno(errno, "write to gRPC's socket");
        }
        auto left = static_cast<std::size_t>(sent);
        while (!parts.empty() && left >= parts.front().iov_len) {
            left -= parts.front().iov_len;
            parts = parts.subspan(1);
        }
        if (left != 0) {
            parts.front().iov_base = static_cast<char*>(parts.front().iov_base) + left;
            parts.front().iov_len -= left;
        }
    }
    return {};
}

// The length of "field 1, bytes, length" at the start of a BytesMessage that has this one field and `total` bytes;
// 0 when it is anything else.
std::size_t header_size(std::span<const std::uint8_t> start, std::size_t total) {
    constexpr std::uint8_t kData = 0x0a;
    if (start.empty() || start[0] != kData) return 0;
    std::uint64_t length = 0;
    for (std::size_t i = 1; i < start.size() && i <= 5; ++i) {
        length |= static_cast<std::uint64_t>(start[i] & 0x7fU) << (7 * (i - 1));
        if ((start[i] & 0x80U) == 0) return length + i + 1 == total ? i + 1 : 0;
    }
    return 0;
}

// The bytes inside a BytesMessage, without copying them where it is written as everybody writes it.
Result<> unpack_into(const grpc::ByteBuffer& message, int socket) {
    std::vector<grpc::Slice> slices;
    if (const auto dumped = message.Dump(&slices); !dumped.ok()) return from_status(dumped);
    if (slices.empty()) return {};
    std::vector<iovec> parts;
    std::size_t skip = header_size({slices[0].begin(), slices[0].size()}, message.Length());
    moby::buildkit::v1::BytesMessage parsed;
    if (skip == 0) {
        std::string whole;
        for (const auto& slice : slices) whole.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
        if (!parsed.ParseFromString(whole)) return bad_input("malformed message in the tunnel of a session");
        if (!parsed.data().empty()) parts.push_back({parsed.mutable_data()->data(), parsed.data().size()});
    } else {
        for (const auto& slice : slices) {
            // sendmsg does not write to it.
            auto* data = const_cast<std::uint8_t*>(slice.begin());
            if (slice.size() > skip) parts.push_back({data + skip, slice.size() - skip});
            skip -= std::min(skip, slice.size());
        }
    }
    return send_all(socket, parts);
}

// What the socket has now as a BytesMessage; nullopt at its end.
Result<std::optional<grpc::ByteBuffer>> pack_from(int socket) {
    grpc_slice raw = ::grpc_slice_malloc(kPiece);
    const auto got = sys::read_some(socket, {reinterpret_cast<std::byte*>(GRPC_SLICE_START_PTR(raw)), kPiece});
    const std::size_t size = got ? *got : 0;
    grpc::Slice data;
    if (size >= kSmall) {
        data = grpc::Slice(::grpc_slice_sub(raw, 0, size), grpc::Slice::STEAL_REF);
    } else if (size > 0) {
        data = grpc::Slice(GRPC_SLICE_START_PTR(raw), size);
    }
    ::grpc_slice_unref(raw);
    if (!got) return got.error();
    if (size == 0) return std::optional<grpc::ByteBuffer>{};
    std::array<std::uint8_t, 6> header{0x0a};
    std::size_t header_bytes = 1;
    for (std::size_t rest = size; header_bytes < header.size(); rest >>= 7U) {
        header[header_bytes++] = static_cast<std::uint8_t>((rest & 0x7fU) | (rest > 0x7fU ? 0x80U : 0));
        if (rest <= 0x7fU) break;
    }
    const std::array<grpc::Slice, 2> slices{grpc::Slice(header.data(), header_bytes), data};
    return std::optional<grpc::ByteBuffer>(std::in_place, slices.data(), slices.size());
}

template <class Stream>
Result<bool> receive_message(Stream& stream, int socket) {
    grpc::ByteBuffer message;
    if (!stream.Read(&message)) return false;
    TRY(unpack_into(message, socket));
    return true;
}

template <class Stream>
Result<bool> send_message(Stream& stream, int socket) {
    const auto message = TRY(pack_from(socket));
    if (!message) return false;
    if (!stream.Write(*message)) return fail(Code::unavailable, Blame::world, "the peer ended the call");
    return true;
}

class HandlerCarrier final : public Carrier {
public:
    HandlerCarrier(grpc::ServerContext& context, grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>& stream)
        : context_(context), stream_(stream) {}
    Result<bool> receive_into(int socket) override {
        const bool more = TRY(receive_message(stream_, socket));
        if (!more) peer_ended_ = true;
        return more;
    }
    Result<bool> send_from(int socket) override { return send_message(stream_, socket); }
    // A peer that has ended its half gets the handler's status; another one does not know that it should.
    void finish_sending() override {
        if (!peer_ended_) abort();
    }
    void abort() override { context_.TryCancel(); }

private:
    std::atomic<bool> peer_ended_ = false;
    grpc::ServerContext& context_;
    grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>& stream_;
};

class CallCarrier final : public Carrier {
public:
    CallCarrier(std::shared_ptr<grpc::Channel> channel, std::string method, const Metadata& metadata)
        : channel_(std::move(channel)), method_(std::move(method)) {
        for (const auto& [key, value] : metadata) context_.AddMetadata(key, value);
        stream_.reset(grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
            channel_.get(), grpc::internal::RpcMethod(method_.c_str(), grpc::internal::RpcMethod::BIDI_STREAMING),
            &context_));
    }
    CallCarrier(const CallCarrier&) = delete;
    CallCarrier& operator=(const CallCarrier&) = delete;
    ~CallCarrier() override {
        if (ended_) return;
        context_.TryCancel();
        grpc::ByteBuffer rest;
        while (stream_->Read(&rest)) rest.Clear();
        static_cast<void>(stream_->Finish());
    }

    Result<bool> receive_into(int socket) override {
        const bool more = TRY(receive_message(*stream_, socket));
        if (more) return true;
        ended_ = true;
        const grpc::Status status = stream_->Finish();
        if (!status.ok()) return from_status(status);
        return false;
    }
    Result<bool> send_from(int socket) override { return send_message(*stream_, socket); }
    void finish_sending() override { stream_->WritesDone(); }
    void abort() override { context_.TryCancel(); }

private:
    std::shared_ptr<grpc::Channel> channel_;
    std::string method_;
    grpc::ClientContext context_;
    std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream_;
    bool ended_ = false;
};

class FileCarrier final : public Carrier {
public:
    FileCarrier(sys::Fd input, sys::Fd output, sys::Fd wake)
        : input_(std::move(input)), output_(std::move(output)), wake_(std::move(wake)) {}

    Result<bool> receive_into(int socket) override {
        while (true) {
            const ssize_t got = ::read(input_.get(), incoming_.data(), incoming_.size());
            if (got == 0) return false;
            if (got > 0) {
                iovec part{incoming_.data(), static_cast<std::size_t>(got)};
                TRY(send_all(socket, {&part, 1}));
                return true;
            }
            TRY(wait(input_.get(), POLLIN));
        }
    }

    Result<bool> send_from(int socket) override {
        const std::size_t got = TRY(sys::read_some(socket, outgoing_));
        std::span<const std::byte> rest(outgoing_.data(), got);
        while (!rest.empty()) {
            // SIGPIPE is ignored by every program that uses this room (start_library).
            const ssize_t written = ::write(output_.get(), rest.data(), rest.size());
            if (written >= 0) {
                rest = rest.subspan(static_cast<std::size_t>(written));
            } else {
                TRY(wait(output_.get(), POLLOUT));
            }
        }
        return got != 0;
    }

    // The descriptor stays taken (abort() may come at any time), but nothing is left to read at the other end.
    void finish_sending() override {
        ::shutdown(output_.get(), SHUT_WR);
        output_ = {};
    }

    void abort() override {
        const std::uint64_t one = 1;
        static_cast<void>(!::write(wake_.get(), &one, sizeof one));
    }

private:
    // errno says why a read or a write did nothing.
    Result<> wait(int fd, short events) const {
        if (errno == EINTR) return {};
        if (errno != EAGAIN) return fail_errno(errno, "pipe to the peer");
        std::array<pollfd, 2> polled{pollfd{fd, events, 0}, pollfd{wake_.get(), POLLIN, 0}};
        if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) return fail_errno(errno, "poll");
        if (polled[1].revents != 0) return cancelled();
        return {};
    }

    sys::Fd input_;
    sys::Fd output_;
    sys::Fd wake_;  // an eventfd that stays readable
    std::vector<std::byte> incoming_ = std::vector<std::byte>(kPiece);
    std::vector<std::byte> outgoing_ = std::vector<std::byte>(kPiece);
};

Result<> make_nonblocking(int fd) {
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return fail_errno(errno, "pipe to the peer");
    return {};
}

}  // namespace

std::unique_ptr<Carrier> carry_in_handler(grpc::ServerContext& context,
                                          grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>& stream) {
    return std::make_unique<HandlerCarrier>(context, stream);
}

std::unique_ptr<Carrier> carry_in_call(std::shared_ptr<grpc::Channel> channel, const std::string& method,
                                       const Metadata& metadata) {
    return std::make_unique<CallCarrier>(std::move(channel), method, metadata);
}

Result<std::unique_ptr<Carrier>> carry_in_files(sys::Fd input, sys::Fd output) {
    TRY(make_nonblocking(input.get()));
    TRY(make_nonblocking(output.get()));
    sys::Fd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake.valid()) return fail_errno(errno, "eventfd");
    return std::unique_ptr<Carrier>(
        std::make_unique<FileCarrier>(std::move(input), std::move(output), std::move(wake)));
}

}  // namespace cooper::rpc
