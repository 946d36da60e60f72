#include "registry/detail/credential_helper.hpp"

#include "base/defer.hpp"
#include "base/text.hpp"
#include "sys/fd.hpp"

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>
#include <spawn.h>
#include <sys/wait.h>

extern char** environ;

namespace cooper::registry::detail {
namespace {

constexpr std::size_t kMaxAnswerBytes = 1u << 20;
constexpr std::string_view kTokenUser = "<token>";

struct Answer {
    std::string text;
    bool good = false;
};

bool valid_name(const std::string& name) {
    return !name.empty() && name.size() <= 64 && name.front() != '-' && std::ranges::all_of(name, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
               c == '.';
    });
}

Result<std::string> read_answer(int fd, const Stop& stop) {
    std::string text;
    std::byte chunk[4096];
    for (;;) {
        TRY(sys::wait_readable(fd, stop));
        const std::size_t n = TRY(sys::read_some(fd, chunk));
        if (n == 0) return text;
        text += as_text(std::span(chunk, n));
        if (text.size() > kMaxAnswerBytes) return fail(Code::resource_exhausted, Blame::user, "its answer is too long");
    }
}

Result<Answer> run(const std::string& helper, const std::string& verb, const std::string& input, const Stop& stop) {
    if (!valid_name(helper)) return bad_input("{} is not the name of a credential helper", cooper::quoted(helper));
    const std::string program = "docker-credential-" + helper;
    sys::Pipe in = TRY(sys::make_pipe());
    sys::Pipe out = TRY(sys::make_pipe());
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    const Defer destroy([&] { posix_spawn_file_actions_destroy(&actions); });
    posix_spawn_file_actions_adddup2(&actions, in.read_end.get(), 0);
    posix_spawn_file_actions_adddup2(&actions, out.write_end.get(), 1);
    std::string arg0 = program;
    std::string arg1 = verb;
    char* argv[] = {arg0.data(), arg1.data(), nullptr};
    pid_t pid = -1;
    if (const int error = posix_spawnp(&pid, program.c_str(), &actions, nullptr, argv, environ); error != 0) {
        return fail_errno(error, "run " + program)
            .with_hint("docker's config.json names this credential helper: install it or remove the entry");
    }
    in.read_end = sys::Fd();
    out.write_end = sys::Fd();
    // Small enough for the pipe's buffer, so this does not block; a helper that does not read is its own loss.
    const Result<> written = sys::write_all(in.write_end.get(), input);
    in.write_end = sys::Fd();
    Result<std::string> text = written ? read_answer(out.read_end.get(), stop) : written.error();
    if (!text) kill(pid, SIGKILL);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    if (!text) return std::move(text).error().with_context(program);
    return Answer{.text = std::move(*text), .good = WIFEXITED(status) && WEXITSTATUS(status) == 0};
}

bool says_unknown(const std::string& text) {
    return text.contains("credentials not found") || text.contains("no credentials server URL") ||
           text.contains("no such credential");
}

Error refused(const std::string& helper, const std::string& verb, const std::string& text) {
    return fail(Code::failed_precondition, Blame::user, "docker-credential-{} {} failed: {}", helper, verb,
                cooper::quoted(trim(text)));
}

}  // namespace

Result<std::optional<Credential>> helper_get(const std::string& helper, const std::string& server, const Stop& stop) {
    const Answer answer = TRY(run(helper, "get", server, stop));
    if (!answer.good && says_unknown(answer.text)) return std::optional<Credential>();
    if (!answer.good) return refused(helper, "get", answer.text);
    const auto document = nlohmann::json::parse(answer.text, nullptr, false);
    const auto text = [&](const char* key) {
        const auto found = document.find(key);
        return found != document.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    if (!document.is_object())
        return fail(Code::failed_precondition, Blame::user, "docker-credential-{} answers no JSON", helper);
    Credential credential;
    credential.username = text("Username");
    if (credential.username == kTokenUser) {
        credential.username.clear();
        credential.identity_token = text("Secret");
    } else {
        credential.password = text("Secret");
    }
    return std::optional(std::move(credential));
}

Result<> helper_store(const std::string& helper, const std::string& server, const Credential& credential,
                      const Stop& stop) {
    const bool token = !credential.identity_token.empty();
    const nlohmann::ordered_json document{{"ServerURL", server},
                                          {"Username", token ? std::string(kTokenUser) : credential.username},
                                          {"Secret", token ? credential.identity_token : credential.password}};
    const Answer answer =
        TRY(run(helper, "store", document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), stop));
    if (!answer.good) return refused(helper, "store", answer.text);
    return {};
}

Result<bool> helper_erase(const std::string& helper, const std::string& server, const Stop& stop) {
    const Answer answer = TRY(run(helper, "erase", server, stop));
    if (answer.good) return true;
    if (says_unknown(answer.text)) return false;
    return refused(helper, "erase", answer.text);
}

}  // namespace cooper::registry::detail
