#include "source/git_command.hpp"

#include "base/text.hpp"
#include "sys/process.hpp"

#include <cstdlib>

namespace cooper::source {
namespace {

constexpr std::size_t kMaxOutputBytes = 16u << 20;

std::string last_words(const std::string& err) {
    std::vector<std::string> lines;
    for (const std::string& line : split(err, '\n')) {
        const std::string text(trim(line));
        if (text.empty()) continue;
        lines.push_back(text);
        if (lines.size() > 6) lines.erase(lines.begin());
    }
    std::string said = join(lines, "; ");
    for (char& c : said) {
        if (static_cast<unsigned char>(c) < ' ') c = ' ';
    }
    return said;
}

Error explain(const std::string& verb, const std::string& err) {
    const std::string said = last_words(err);
    const auto says = [&](std::string_view text) { return err.contains(text); };
    Error error = fail(Code::unknown, Blame::world, "git {} failed: {}", verb, said);
    if (says("could not read Username") || says("Authentication failed") || says("terminal prompts disabled") ||
        says("Permission denied (publickey")) {
        return fail(Code::unauthenticated, Blame::user, "git {} failed: {}", verb, said)
            .with_hint("check the address; for a private repository give --secret id=GIT_AUTH_TOKEN or --ssh default");
    }
    if (says("not found") || says("does not appear to be a git repository") || says("couldn't find remote ref")) {
        return fail(Code::not_found, Blame::user, "git {} failed: {}", verb, said);
    }
    if (says("Could not resolve host") || says("Failed to connect") || says("Connection refused") ||
        says("early EOF") || says("timed out")) {
        return fail(Code::unavailable, Blame::world, "git {} failed: {}", verb, said)
            .with_hint("check the name of the host and the network");
    }
    return error;
}

std::string shell_quote(const std::string& text) {
    std::string out = "'";
    for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
}

}  // namespace

Result<Git::Outcome> Git::execute(const Place& place, const std::vector<std::string>& args, const Stop& stop) const {
    std::vector<std::string> env{"GIT_TERMINAL_PROMPT=0",
                                 "GIT_CONFIG_NOSYSTEM=1",
                                 "GIT_CONFIG_GLOBAL=/dev/null",
                                 "GIT_ASKPASS=/bin/false",
                                 "SSH_ASKPASS=/bin/false",
                                 "HOME=/dev/null",
                                 "LC_ALL=C",
                                 "GIT_NO_REPLACE_OBJECTS=1",
                                 "GIT_LFS_SKIP_SMUDGE=1"};
    for (const char* name : {"PATH", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy",
                             "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"}) {
        if (const char* value = std::getenv(name)) env.push_back(std::string(name) + "=" + value);
    }
    std::string ssh = "ssh -F /dev/null -o BatchMode=yes -o ForwardAgent=no ";
    ssh += identity_.known_hosts_file.empty()
               ? "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
               : "-o StrictHostKeyChecking=yes -o UserKnownHostsFile=" + shell_quote(identity_.known_hosts_file);
    env.push_back("GIT_SSH_COMMAND=" + ssh);
    if (!identity_.ssh_auth_sock.empty()) env.push_back("SSH_AUTH_SOCK=" + identity_.ssh_auth_sock);

    const std::string far = identity_.offline ? "never" : "always";
    std::vector<std::pair<std::string, std::string>> config{
        {"core.hooksPath", "/dev/null"},
        {"credential.helper", ""},
        {"protocol.allow", "never"},
        {"protocol.http.allow", far},
        {"protocol.https.allow", far},
        {"protocol.ssh.allow", far},
        {"protocol.git.allow", far},
        // Only when asked for by name: a submodule must not reach into this machine.
        {"protocol.file.allow", "user"},
        {"safe.directory", "*"},
        {"gc.auto", "0"},
        {"advice.detachedHead", "false"},
        {"init.defaultBranch", "main"},
        {"core.fsmonitor", "false"},
        {"core.symlinks", "true"}};
    if (!identity_.auth_header.empty()) {
        config.emplace_back("http." + identity_.auth_scope + ".extraheader", identity_.auth_header);
    }
    env.push_back(fmt::format("GIT_CONFIG_COUNT={}", config.size()));
    for (std::size_t i = 0; i < config.size(); ++i) {
        env.push_back(fmt::format("GIT_CONFIG_KEY_{}={}", i, config[i].first));
        env.push_back(fmt::format("GIT_CONFIG_VALUE_{}={}", i, config[i].second));
    }
    if (!place.git_dir.empty()) env.push_back("GIT_DIR=" + place.git_dir);
    if (!place.git_dir.empty() && !place.work_tree.empty()) env.push_back("GIT_WORK_TREE=" + place.work_tree);
    if (!place.index_file.empty()) env.push_back("GIT_INDEX_FILE=" + place.index_file);

    // The shell is only there for the umask: files must come out 0644 and 0755 whatever ours is.
    sys::SpawnSpec spec;
    spec.program = "/bin/sh";
    spec.args = {"sh", "-c", "umask 0022; exec git \"$@\"", "git"};
    spec.args.insert(spec.args.end(), args.begin(), args.end());
    spec.env = std::move(env);
    spec.cwd = place.work_tree.empty() ? "/" : place.work_tree;
    spec.session = sys::SpawnSpec::Session::own;
    sys::Captured done = TRY(sys::run_captured(std::move(spec), "", kMaxOutputBytes, stop));
    if (done.status.code == 127) {
        return fail(Code::failed_precondition, Blame::world, "git is needed for this source, but it is not installed")
            .with_hint("install git");
    }
    return Outcome{.good = done.status.code == 0, .out = std::move(done.out), .err = std::move(done.err)};
}

Result<std::string> Git::run(const Place& place, const std::vector<std::string>& args, const Stop& stop) const {
    Outcome outcome = TRY(execute(place, args, stop));
    if (!outcome.good) return explain(args.front(), outcome.err);
    return std::move(outcome.out);
}

Result<bool> Git::test(const Place& place, const std::vector<std::string>& args, const Stop& stop) const {
    const Outcome outcome = TRY(execute(place, args, stop));
    return outcome.good;
}

}  // namespace cooper::source
