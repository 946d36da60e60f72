#include "daemon/debug_server.hpp"

#include "base/text.hpp"
#include "codec/go_json.hpp"
#include "sys/rooted_dir.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace cooper::daemon {

namespace {

constexpr std::size_t kMaxRequest = 8 << 10;
constexpr int kPatienceSeconds = 5;

std::string read_proc(const std::string& path) {
    const sys::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return {};
    return sys::read_to_end(file.get(), 256 << 10).value_or(std::string());
}

// "VmRSS:    1234 kB" of /proc/self/status.
std::uint64_t status_kilobytes(std::string_view status, std::string_view name) {
    for (const auto& line : split(status, '\n')) {
        if (!line.starts_with(name)) continue;
        const std::string_view digits = trim(std::string_view(line).substr(name.size() + 1));
        return static_cast<std::uint64_t>(parse_int(digits.substr(0, digits.find(' '))).value_or(0));
    }
    return 0;
}

std::size_t entries_of(const char* path) {
    const sys::Fd dir(::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const auto entries = sys::list_dir(dir.get());
    return entries ? entries->size() : 0;
}

void metric(std::string& out, std::string_view type, std::string_view name, std::string_view help,
            std::uint64_t value) {
    out += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}\n", name, help, type, value);
}

std::string threads() {
    std::string out;
    const sys::Fd dir(::open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const auto entries = sys::list_dir(dir.get());
    if (!entries) return out;
    for (const auto& entry : *entries) {
        const std::string base = "/proc/self/task/" + entry.name;
        out += fmt::format("{} {} {}\n", entry.name, trim(read_proc(base + "/comm")), trim(read_proc(base + "/wchan")));
    }
    return out;
}

}  // namespace

DebugServer::DebugServer(ListeningSocket socket, ProgressHub& hub, CallWatcher& calls, const Counters& counters)
    : hub_(hub),
      calls_(calls),
      counters_(counters),
      listener_(std::move(socket), [this](sys::Fd client) { serve(std::move(client)); }) {}

std::string DebugServer::answer(std::string_view path) const {
    std::string type = "text/plain; charset=utf-8";
    std::string body;
    std::string status = "200 OK";
    if (path == "/metrics") {
        type = "text/plain; version=0.0.4; charset=utf-8";
        const std::string own = read_proc("/proc/self/status");
        metric(body, "gauge", "cooperd_builds_running", "Builds that run now.", hub_.open_builds());
        metric(body, "gauge", "cooperd_calls_running", "Calls of clients that wait for something.", calls_.calls());
        metric(body, "counter", "cooperd_builds_succeeded_total", "Builds that succeeded.", counters_.builds_done);
        metric(body, "counter", "cooperd_builds_failed_total", "Builds that failed.", counters_.builds_failed);
        metric(body, "counter", "cooperd_builds_canceled_total", "Builds that were cancelled.",
               counters_.builds_cancelled);
        metric(body, "gauge", "process_resident_memory_bytes", "Resident memory.",
               status_kilobytes(own, "VmRSS") << 10);
        metric(body, "gauge", "process_virtual_memory_bytes", "Virtual memory.", status_kilobytes(own, "VmSize") << 10);
        metric(body, "gauge", "process_open_fds", "Open descriptors.", entries_of("/proc/self/fd"));
        metric(body, "gauge", "process_threads", "Threads.", status_kilobytes(own, "Threads"));
    } else if (path == "/debug/builds") {
        type = "application/json";
        codec::GoJson json;
        json.begin_array();
        for (const auto& ref : hub_.open_refs()) json.string(ref);
        json.end_array();
        body = std::move(json).take() + "\n";
    } else if (path == "/debug/threads") {
        body = threads();
    } else if (path == "/debug/memory") {
        body = read_proc("/proc/self/status") + read_proc("/proc/self/smaps_rollup");
    } else {
        status = "404 Not Found";
        body = "/metrics\n/debug/builds\n/debug/threads\n/debug/memory\n";
    }
    return fmt::format("HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}", status,
                       type, body.size(), body);
}

void DebugServer::serve(sys::Fd client) const {
    ::fcntl(client.get(), F_SETFL, 0);
    const struct timeval patience = {.tv_sec = kPatienceSeconds, .tv_usec = 0};
    ::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    std::string request;
    while (request.find("\r\n\r\n") == std::string::npos && request.size() < kMaxRequest) {
        char buffer[2048];
        const ssize_t got = ::recv(client.get(), buffer, sizeof buffer, 0);
        if (got <= 0) return;
        request.append(buffer, static_cast<std::size_t>(got));
    }
    const auto words = split(std::string_view(request).substr(0, request.find("\r\n")), ' ');
    std::string response = "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    if (words.size() == 3 && words[0] == "GET")
        response = answer(std::string_view(words[1]).substr(0, words[1].find('?')));
    std::string_view left = response;
    while (!left.empty()) {
        const ssize_t put = ::send(client.get(), left.data(), left.size(), MSG_NOSIGNAL);
        if (put <= 0) return;
        left.remove_prefix(static_cast<std::size_t>(put));
    }
    // The rest of the request would turn the close into a reset.
    ::shutdown(client.get(), SHUT_WR);
}

}  // namespace cooper::daemon
