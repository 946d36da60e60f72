// Transfers over a unix socket: one_big_file (MB/s), small_files and unchanged_files (files/s). Packets go over the
// socket behind their length, so this is what the protocol costs without gRPC.
//     filesync_bench FOLDER [MEGABYTES] [FILES]
#include "filesync/local_tree.hpp"
#include "filesync/packet_stream.hpp"
#include "filesync/receive.hpp"
#include "filesync/send.hpp"
#include "sys/temp_dir.hpp"

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <mutex>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <thread>
#include <unistd.h>

using namespace cooper;

namespace {

class SocketStream final : public filesync::PacketStream {
public:
    explicit SocketStream(int fd) : fd_(fd), buffer_(1 << 20, '\0') {}
    Result<> send(std::string_view message) override {
        const std::scoped_lock lock(sending_);
        auto size = static_cast<std::uint32_t>(message.size());
        std::array<iovec, 2> parts = {iovec{.iov_base = &size, .iov_len = sizeof size},
                                      iovec{.iov_base = const_cast<char*>(message.data()), .iov_len = message.size()}};
        const auto sent = ::writev(fd_, parts.data(), 2);
        if (sent < 0) return fail_errno(errno, "send");
        const auto done = static_cast<std::size_t>(sent);
        if (done < sizeof size) return fail(Code::internal, Blame::cooper, "short write");
        return sys::write_all(fd_, message.substr(done - sizeof size));
    }
    Result<std::optional<std::string>> receive() override {
        std::uint32_t size = 0;
        if (!TRY(take(reinterpret_cast<char*>(&size), sizeof size))) return std::optional<std::string>();
        std::string message(size, '\0');
        if (!TRY(take(message.data(), size))) return fail(Code::unavailable, Blame::world, "cut off");
        return std::optional(std::move(message));
    }
    Result<> close_send() override {
        ::shutdown(fd_, SHUT_WR);
        return {};
    }
    void cancel() override { ::shutdown(fd_, SHUT_RDWR); }

private:
    Result<bool> take(char* into, std::size_t size) {
        while (size > 0) {
            if (at_ == end_) {
                at_ = 0;
                end_ = TRY(sys::read_some(fd_, std::as_writable_bytes(std::span(buffer_))));
                if (end_ == 0) return false;
            }
            const std::size_t n = std::min(size, end_ - at_);
            std::memcpy(into, buffer_.data() + at_, n);
            at_ += n;
            into += n;
            size -= n;
        }
        return true;
    }
    int fd_;
    std::mutex sending_;
    std::string buffer_;
    std::size_t at_ = 0;
    std::size_t end_ = 0;
};

template <class T>
T must(Result<T> result) {
    if (result) return std::move(*result);
    std::fprintf(stderr, "%s\n", result.error().to_string().c_str());
    std::exit(1);
}

double transfer(const std::string& from, const std::string& to) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) std::exit(1);
    const sys::Fd left(ends[0]);
    const sys::Fd right(ends[1]);
    const auto tree = must(filesync::open_local_tree(from, {}));
    const auto dest = must(sys::RootedDir::open_host(to));
    const auto start = std::chrono::steady_clock::now();
    {
        const std::jthread sender([&] {
            SocketStream stream(left.get());
            must(filesync::send(stream, {{.name = "", .tree = tree}}, {}, Stop()));
        });
        SocketStream stream(right.get());
        filesync::ReceiveOptions options;
        options.adjust = [](filesync::Stat& stat) {
            stat.uid = ::geteuid();
            stat.gid = ::getegid();
        };
        must(filesync::receive(stream, dest, options, Stop()));
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string folder(const std::string& path) {
    ::mkdir(path.c_str(), 0755);
    return path;
}

void write_file(const std::string& path, std::string_view content, int times) {
    const sys::Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    for (int i = 0; i < times; ++i) {
        if (!sys::write_all(file.get(), content)) std::exit(1);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const std::string base = argc > 1 ? argv[1] : "/tmp";
    const int megabytes = argc > 2 ? std::atoi(argv[2]) : 1000;
    const int files = argc > 3 ? std::atoi(argv[3]) : 50'000;
    const sys::TempDir temp = must(sys::TempDir::create(base, "filesync-bench-"));
    const std::string big = folder(temp.path() + "/big");
    write_file(big + "/file", std::string(1'000'000, 'x'), megabytes);
    const double big_seconds = transfer(big, folder(temp.path() + "/big-copy"));
    std::printf("one_big_file     %8.0f MB/s\n", megabytes / big_seconds);
    const std::string small = folder(temp.path() + "/small");
    const std::string content(1000, 'x');
    for (int i = 0; i < files; ++i) {
        const std::string dir = small + "/" + std::to_string(i / 100);
        if (i % 100 == 0) folder(dir);
        write_file(dir + "/" + std::to_string(i), content, 1);
    }
    const std::string copy = folder(temp.path() + "/small-copy");
    std::printf("small_files      %8.0f files/s\n", files / transfer(small, copy));
    std::printf("unchanged_files  %8.0f files/s\n", files / transfer(small, copy));
    return 0;
}
