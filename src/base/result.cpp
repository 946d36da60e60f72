#include "base/result.hpp"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace cooper {

struct Error::Body {
    Code code;
    Blame blame;
    std::string message;
    std::vector<std::string> contexts;  // innermost first
    std::vector<ErrorDetail> details;
    std::string hint;
};

std::string_view code_name(Code code) {
    static constexpr std::array<std::string_view, 17> kNames = {
        "ok",        "cancelled",      "unknown",           "invalid argument",   "deadline exceeded",
        "not found", "already exists", "permission denied", "resource exhausted", "failed precondition",
        "aborted",   "out of range",   "unimplemented",     "internal",           "unavailable",
        "data loss", "unauthenticated"};
    return kNames.at(static_cast<std::size_t>(code));
}

Error::Error(Code code, Blame blame, std::string message)
    : body_(std::make_shared<const Body>(Body{code, blame, std::move(message), {}, {}, {}})) {}

Code Error::code() const { return body_->code; }
Blame Error::blame() const { return body_->blame; }
const std::string& Error::message() const { return body_->message; }
const std::vector<ErrorDetail>& Error::details() const { return body_->details; }
const std::string& Error::hint() const { return body_->hint; }

std::string Error::to_string() const {
    std::string text;
    for (auto context = body_->contexts.rbegin(); context != body_->contexts.rend(); ++context) {
        text += *context;
        text += ": ";
    }
    return text + body_->message;
}

Error Error::with_context(std::string text) const {
    Body body = *body_;
    body.contexts.push_back(std::move(text));
    return Error(std::make_shared<const Body>(std::move(body)));
}

Error Error::with_detail(ErrorDetail detail) const {
    Body body = *body_;
    body.details.push_back(std::move(detail));
    return Error(std::make_shared<const Body>(std::move(body)));
}

Error Error::with_hint(std::string text) const {
    Body body = *body_;
    body.hint = std::move(text);
    return Error(std::make_shared<const Body>(std::move(body)));
}

Error fail_errno(int errno_value, std::string what) {
    Code code = Code::unknown;
    Blame blame = Blame::world;
    switch (errno_value) {
        case ENOENT:
        case ENOTDIR:
            code = Code::not_found;
            break;
        case EEXIST:
            code = Code::already_exists;
            break;
        case EACCES:
        case EPERM:
            code = Code::permission_denied;
            break;
        case ENOSPC:
        case EDQUOT:
        case EMFILE:
        case ENFILE:
        case ENOMEM:
            code = Code::resource_exhausted;
            break;
        case EINVAL:
        case ENAMETOOLONG:
        case ELOOP:
            code = Code::invalid_argument;
            break;
        case ETIMEDOUT:
            code = Code::deadline_exceeded;
            break;
        case ECONNREFUSED:
        case ECONNRESET:
            code = Code::unavailable;
            break;
        case ENOSYS:
        case EOPNOTSUPP:
            code = Code::unimplemented;
            break;
        default:
            break;
    }
    std::array<char, 128> buffer{};
    const char* text = strerror_r(errno_value, buffer.data(), buffer.size());
    return Error(code, blame, fmt::format("{}: {}", what, text)).with_detail(Errno{errno_value});
}

Error cancelled() { return Error(Code::cancelled, Blame::user, "cancelled"); }

namespace detail {
void check_failed(const char* condition, const char* file, int line) {
    std::fprintf(stderr, "cooper: internal error: %s failed at %s:%d\n", condition, file, line);
    std::abort();
}
}  // namespace detail

}  // namespace cooper
