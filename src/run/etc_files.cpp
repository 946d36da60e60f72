#include "run/etc_files.hpp"

#include "base/text.hpp"

#include <cerrno>
#include <fcntl.h>

namespace cooper::run {
namespace {

constexpr std::size_t kMaxFileBytes = 1 << 20;

std::string read_file(const char* path) {
    const sys::Fd fd(::open(path, O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return {};
    return sys::read_to_end(fd.get(), kMaxFileBytes).value_or("");
}

std::vector<std::string> words_of(std::string_view line) {
    std::vector<std::string> words;
    std::string word;
    for (const char c : std::string(line) + " ") {
        if (c != ' ' && c != '\t' && c != '\r') {
            word += c;
        } else if (!word.empty()) {
            words.push_back(std::move(word));
            word.clear();
        }
    }
    return words;
}

bool is_loopback(std::string_view address) { return address.starts_with("127.") || address == "::1"; }

}  // namespace

std::string make_resolv_conf(std::string_view host_text, NetworkMode mode, const std::vector<std::string>& servers) {
    if (mode == NetworkMode::host) return std::string(host_text);
    std::string text;
    bool any = false;
    for (const std::string& line : split(host_text, '\n')) {
        const std::vector<std::string> words = words_of(line);
        if (words.empty() || words[0].front() == '#' || words[0].front() == ';') continue;
        if (words[0] == "nameserver") {
            if (!servers.empty() || words.size() < 2 || is_loopback(words[1])) continue;
            any = true;
        }
        text += join(words, " ") + "\n";
    }
    for (const std::string& server : servers) text += "nameserver " + server + "\n";
    if (!any && servers.empty()) {
        for (const char* server : {"8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"}) {
            text += std::string("nameserver ") + server + "\n";
        }
    }
    return text;
}

std::string read_host_resolv_conf() {
    std::string text = read_file("/etc/resolv.conf");
    bool any = false;
    bool only_stub = true;
    for (const std::string& line : split(text, '\n')) {
        const std::vector<std::string> words = words_of(line);
        if (words.size() < 2 || words[0] != "nameserver") continue;
        any = true;
        only_stub = only_stub && words[1] == "127.0.0.53";
    }
    if (any && only_stub) {
        std::string real = read_file("/run/systemd/resolve/resolv.conf");
        if (!real.empty()) return real;
    }
    return text;
}

std::string make_hosts(std::string_view hostname, const std::vector<ExtraHost>& extra) {
    std::string text = fmt::format("127.0.0.1\tlocalhost {}\n::1\tlocalhost ip6-localhost ip6-loopback\n", hostname);
    for (const ExtraHost& host : extra) text += fmt::format("{}\t{}\n", host.address, host.name);
    return text;
}

}  // namespace cooper::run
