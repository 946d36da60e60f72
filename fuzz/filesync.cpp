// A sender that lies, to a receiver: whatever it says, nothing is written beside the receiver's directory, and the
// receiver ends. Input: messages, each behind its length (one byte; 255 asks for two more).
#include "filesync/packet.hpp"
#include "filesync/packet_stream.hpp"
#include "filesync/receive.hpp"
#include "sys/rooted_dir.hpp"
#include "sys/temp_dir.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace cooper;

namespace {

class LyingSender final : public filesync::PacketStream {
public:
    explicit LyingSender(std::string_view input) : rest_(input) {}
    Result<> send(std::string_view message) override {
        if (!filesync::parse_packet(message)) std::abort();
        return {};
    }
    Result<std::optional<std::string>> receive() override {
        if (cancelled_) return cancelled();
        if (rest_.empty()) return std::optional<std::string>();
        std::size_t size = take();
        if (size == 255) size = take() << 8U | take();
        std::optional<std::string> message = std::string(rest_.substr(0, size));
        rest_.remove_prefix(message->size());
        return message;
    }
    Result<> close_send() override { return {}; }
    void cancel() override { cancelled_ = true; }

private:
    std::size_t take() {
        if (rest_.empty()) return 0;
        const auto byte = static_cast<unsigned char>(rest_.front());
        rest_.remove_prefix(1);
        return byte;
    }
    std::string_view rest_;
    std::atomic<bool> cancelled_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string base = [] {
        std::string path = "/tmp/fuzz-filesync-XXXXXX";
        return std::string(::mkdtemp(path.data()));
    }();
    static const sys::RootedDir outside = sys::RootedDir::open_host(base).value();
    static const std::string dest_path = base + "/dest";
    static const bool prepared = [] {
        const sys::Fd guard(::open((base + "/guard").c_str(), O_WRONLY | O_CREAT, 0600));
        return sys::write_all(guard.get(), std::string_view("untouched")).has_value();
    }();
    if (!prepared) std::abort();
    // What earlier inputs left stays for a while: receivers are incremental.
    static int inputs = 0;
    if (inputs++ % 50 == 0 && !outside.remove_all("dest")) std::abort();
    ::mkdir(dest_path.c_str(), 0700);

    LyingSender stream({reinterpret_cast<const char*>(data), size});
    filesync::ReceiveOptions options;
    options.devices = filesync::Devices::leave_out;
    options.max_entries = 1000;
    options.max_bytes = 1 << 20;
    options.adjust = [](filesync::Stat& stat) {
        stat.uid = ::geteuid();
        stat.gid = ::getegid();
    };
    if (size > 0 && data[0] % 4 == 1) {
        options.materialize = [](std::string_view path) { return path.size() % 2 == 0; };
    }
    static_cast<void>(filesync::receive(stream, sys::RootedDir::open_host(dest_path).value(), options, Stop()));

    const auto names = sys::list_dir(outside.fd());
    if (!names || names->size() != 2) std::abort();
    const auto guard = outside.read_file("guard", 100);
    if (!guard || *guard != "untouched") std::abort();
    return 0;
}
