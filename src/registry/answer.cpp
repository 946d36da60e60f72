#include "registry/detail/answer.hpp"

#include "base/text.hpp"

#include <nlohmann/json.hpp>

namespace cooper::registry::detail {
namespace {

constexpr std::size_t kMaxErrorBytes = 64 * 1024;
constexpr std::size_t kMaxShownBytes = 1024;

std::string text_field(const nlohmann::json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string printable_text(std::string text) {
    if (text.size() > kMaxShownBytes) text.resize(kMaxShownBytes);
    for (char& c : text) {
        if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = ' ';
    }
    return std::string(trim(text));
}

Error by_status(int status, const std::string& text, const std::string& domain) {
    if (status == 401) {
        return fail(Code::unauthenticated, Blame::user, "{}", text)
            .with_hint(fmt::format("check the name; if it is a private repository, log in: cooper login {}", domain));
    }
    if (status == 403) {
        return fail(Code::permission_denied, Blame::user, "{}", text)
            .with_hint(
                fmt::format("the account used at {} may not do this: ask for access or log in as another", domain));
    }
    if (status == 404) {
        return fail(Code::not_found, Blame::user, "{}", text).with_hint("check the name and the tag or digest");
    }
    if (status == 429) {
        return fail(Code::resource_exhausted, Blame::world, "{}", text)
            .with_hint("the registry limits how often it is asked: wait, log in, or configure a mirror");
    }
    if (status >= 500) {
        return fail(Code::unavailable, Blame::world, "{}", text)
            .with_hint("the registry has a problem of its own: try again later");
    }
    return fail(Code::failed_precondition, Blame::world, "{}", text);
}

}  // namespace

std::string registry_message(std::string_view body) {
    const auto document = nlohmann::json::parse(body.begin(), body.end(), nullptr, false);
    if (!document.is_object()) return "";
    const auto errors = document.find("errors");
    if (errors == document.end() || !errors->is_array() || errors->empty() || !errors->front().is_object()) {
        // Token servers answer {"details": …} or {"message": …}.
        const std::string details = text_field(document, "details");
        return printable_text(details.empty() ? text_field(document, "message") : details);
    }
    const std::string code = to_lower(text_field(errors->front(), "code"));
    const std::string message = text_field(errors->front(), "message");
    if (message.empty()) return printable_text(code);
    return printable_text(code.empty() ? message : code + ": " + message);
}

Error error_of(http::Response& response, const std::string& what, const std::string& domain) {
    std::string body;
    std::byte chunk[4096];
    while (body.size() < kMaxErrorBytes) {
        const auto n = response.body->read(chunk);
        if (!n || *n == 0) break;
        body += as_text(std::span(chunk, *n));
    }
    const std::string said = registry_message(body);
    std::string text = fmt::format("{}: {} answered {}", what, domain, response.status);
    if (!said.empty()) {
        text += " (" + said + ")";
    } else if (response.status == 401 || response.status == 403 || response.status == 404) {
        // A HEAD request has no body to say so.
        text += response.status == 401 ? ": unauthorized" : response.status == 403 ? ": forbidden" : ": not found";
    }
    if (body.size() > kMaxShownBytes) body.resize(kMaxShownBytes);
    return by_status(response.status, text, domain).with_detail(HttpStatus{response.status, body});
}

}  // namespace cooper::registry::detail
