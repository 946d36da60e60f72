// Errors as values: Error, Result<T> and the TRY macros.
//
// Every function that can fail returns Result<T>. An Error says what went wrong (Code, with gRPC's
// numbers), who must act (Blame), a message (lower case, no full stop, values last), a chain of
// contexts added on the way up (outermost first when printed), and optional typed details.
// Thread rules: an Error is a value; copies share an immutable body.
#pragma once

#include <cstdint>
#include <expected>
#include <fmt/core.h>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace cooper {

// gRPC's status codes, so that the door to a wire status is a cast.
enum class Code : std::uint8_t {
    cancelled = 1,
    unknown = 2,
    invalid_argument = 3,
    deadline_exceeded = 4,
    not_found = 5,
    already_exists = 6,
    permission_denied = 7,
    resource_exhausted = 8,
    failed_precondition = 9,
    aborted = 10,
    out_of_range = 11,
    unimplemented = 12,
    internal = 13,
    unavailable = 14,
    data_loss = 15,
    unauthenticated = 16,
};
[[nodiscard]] std::string_view code_name(Code code);

// Who must act for the same request to succeed.
enum class Blame : std::uint8_t { user, world, cooper };

// The process of a step ended with this status (signals as 128+n).
struct ExitStatus {
    int code = 0;
    bool oom_killed = false;
};
struct Errno {
    int value = 0;
};
struct HttpStatus {
    int status = 0;
    std::string body;  // first KiB, for messages
};
// Lines (1-based, inclusive) of a source file; columns are 1-based, 0 = whole line.
struct SourceRange {
    std::string file;
    int first_line = 0;
    int last_line = 0;
    int first_column = 0;
    int last_column = 0;
};
// Lines of the source around the mistake, marked, ready to print (ends with a newline).
struct Excerpt {
    std::string text;
};
// The end of what a failed step printed: its name and the lines.
struct LogTail {
    std::string step;
    std::string text;
};
// The file of a SourceRange, whole, for clients that print excerpts themselves.
struct SourceText {
    std::string file;
    std::string language;  // "Dockerfile"
    std::shared_ptr<const std::string> text;
};
// Digest of the step whose work failed.
struct FailedVertex {
    std::string digest;
};
// The client that was asked for something has gone: another that wants the same work may be asked.
struct SessionLost {
    std::string session_id;
};
using ErrorDetail =
    std::variant<ExitStatus, Errno, HttpStatus, SourceRange, Excerpt, LogTail, SourceText, FailedVertex, SessionLost>;

class [[nodiscard]] Error {
public:
    Error(Code code, Blame blame, std::string message);

    [[nodiscard]] Code code() const;
    [[nodiscard]] Blame blame() const;
    // The innermost message without contexts.
    [[nodiscard]] const std::string& message() const;
    // "outer: inner: message", what a user reads.
    [[nodiscard]] std::string to_string() const;
    [[nodiscard]] const std::vector<ErrorDetail>& details() const;
    // What to do next, printed on a line of its own below the message; empty when nothing is known.
    [[nodiscard]] const std::string& hint() const;

    // Each returns a copy with one thing added.
    [[nodiscard]] Error with_context(std::string text) const;
    [[nodiscard]] Error with_detail(ErrorDetail detail) const;
    [[nodiscard]] Error with_hint(std::string text) const;

    template <class T>
    [[nodiscard]] const T* find_detail() const {
        for (const auto& detail : details()) {
            if (const T* found = std::get_if<T>(&detail)) return found;
        }
        return nullptr;
    }
    [[nodiscard]] bool is_cancelled() const { return code() == Code::cancelled; }

private:
    struct Body;
    explicit Error(std::shared_ptr<const Body> body) : body_(std::move(body)) {}
    std::shared_ptr<const Body> body_;
};

template <class T = void>
class [[nodiscard]] Result : public std::expected<T, Error> {
public:
    using Base = std::expected<T, Error>;
    using Base::Base;
    Result(Error error) : Base(std::unexpected(std::move(error))) {}  // NOLINT: implicit by design
};

// fail(Code::not_found, Blame::user, "no such stage: {}", name)
template <class... Args>
[[nodiscard]] Error fail(Code code, Blame blame, fmt::format_string<Args...> text, Args&&... args) {
    return Error(code, blame, fmt::format(text, std::forward<Args>(args)...));
}
// The failure of a system call: "what: No such file or directory", code derived from errno.
[[nodiscard]] Error fail_errno(int errno_value, std::string what);
[[nodiscard]] Error cancelled();
// A bad input: invalid_argument, blame on the user.
template <class... Args>
[[nodiscard]] Error bad_input(fmt::format_string<Args...> text, Args&&... args) {
    return Error(Code::invalid_argument, Blame::user, fmt::format(text, std::forward<Args>(args)...));
}

namespace detail {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
template <class T>
T&& take_value(Result<T>& result) {
    return std::move(*result);
}
inline void take_value(Result<void>& /*result*/) {}
}  // namespace detail

}  // namespace cooper

// The three legal shapes: `auto x = TRY(f());`  `TRY(f());`  `return TRY(f());`. Never inside a
// braced initialiser: g++ 12 leaks the members already built there.
// The hidden variable has a number in its name, so that a TRY in a lambda inside a TRY shadows nothing.
#define TRY(...) COOPER_TRY_NAMED(COOPER_JOIN(cooper_try_, __COUNTER__), __VA_ARGS__)
#define COOPER_JOIN(a, b) COOPER_JOIN_EXPANDED(a, b)
#define COOPER_JOIN_EXPANDED(a, b) a##b
#define COOPER_TRY_NAMED(name, ...)                \
    __extension__({                                \
        auto name = (__VA_ARGS__);                 \
        if (!name) return std::move(name).error(); \
        ::cooper::detail::take_value(name);        \
    })
// TRY_CONTEXT(f(), "push image: {}", reference)
#define TRY_CONTEXT(expression, ...) \
    COOPER_TRY_CONTEXT_NAMED(COOPER_JOIN(cooper_try_, __COUNTER__), expression, __VA_ARGS__)
#define COOPER_TRY_CONTEXT_NAMED(name, expression, ...)                                   \
    __extension__({                                                                       \
        auto name = (expression);                                                         \
        if (!name) return std::move(name).error().with_context(fmt::format(__VA_ARGS__)); \
        ::cooper::detail::take_value(name);                                               \
    })
// For our own bugs, always on. Never on input.
#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) ::cooper::detail::check_failed(#condition, __FILE__, __LINE__); \
    } while (false)
#ifdef NDEBUG
#define DCHECK(condition) static_cast<void>(0)
#else
#define DCHECK(condition) CHECK(condition)
#endif
#define UNREACHABLE() ::cooper::detail::check_failed("unreachable", __FILE__, __LINE__)
