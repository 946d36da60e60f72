#include "handover/json_api.hpp"

#include "base/text.hpp"
#include "handover/detail/answer.hpp"
#include "oci/json_text.hpp"

namespace cooper::handover {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxAnswer = 64 << 20;

std::optional<std::string> text_field(const json& object, const char* name) {
    if (!object.is_object() || !object.contains(name) || !object[name].is_string()) return std::nullopt;
    return object[name].get<std::string>();
}

}  // namespace

Result<JsonApi> JsonApi::at(http::Client& client, const std::string& address, std::string prefix, std::string who) {
    if (address.starts_with("unix://"))
        return JsonApi(client, "http://localhost" + prefix, address.substr(7), std::move(who));
    if (address.starts_with("/")) return JsonApi(client, "http://localhost" + prefix, address, std::move(who));
    if (address.starts_with("tcp://"))
        return JsonApi(client, "http://" + address.substr(6) + prefix, "", std::move(who));
    return bad_input("{} at {} cannot be reached from here", who, quoted(address))
        .with_hint(fmt::format(
            "give unix://SOCKET or tcp://HOST:PORT without TLS; or pipe: cooper save IMAGE | {} load", who));
}

Result<JsonApi::Answer> JsonApi::ask(http::Method method, const std::string& path, http::Headers headers,
                                     std::optional<http::Body> body, const Stop& stop) {
    http::Request request{.method = method, .url = url_ + path, .headers = std::move(headers), .unix_socket = socket_};
    request.redirects = http::Redirects::refuse;
    request.idle_timeout = std::chrono::minutes(10);  // it unpacks before it answers
    request.body = std::move(body);
    auto response = client_->send(request, stop);
    if (!response && response.error().code() == Code::unavailable) {
        return response.error()
            .with_context(fmt::format("ask {} at {}", who_, socket_.empty() ? url_ : socket_))
            .with_hint("is it running, and may you use its socket? --address names another");
    }
    TRY(check_stop(stop));
    if (!response) return response.error();
    Answer answer;
    answer.status = response->status;
    answer.text = TRY_CONTEXT(read_all(*response->body, kMaxAnswer), "the answer of {}", who_);
    return answer;
}

Result<JsonApi::Answer> JsonApi::post(const std::string& path, const Stop& stop) {
    return ask(http::Method::post, path, {}, std::nullopt, stop);
}

Result<std::string> JsonApi::get(const std::string& path, const Stop& stop) {
    Answer answer = TRY(ask(http::Method::get, path, {}, std::nullopt, stop));
    if (answer.status == 404) return fail(Code::not_found, Blame::world, "{}", message_of(answer.text));
    if (answer.status != 200 && answer.status != 204)
        return fail(Code::unavailable, Blame::world, "{} answers {}: {}", who_, answer.status, message_of(answer.text));
    return std::move(answer.text);
}

Result<json> detail::parse_answer(const std::string& text) {
    TRY(oci::check_json_bounds(text, kMaxAnswer, "the engine's answer"));
    json parsed = json::parse(text, nullptr, false);
    if (parsed.is_discarded()) return bad_input("its answer is no JSON");
    return parsed;
}

std::string message_of(const std::string& text) {
    if (const auto parsed = detail::parse_answer(text)) {
        if (const auto message = text_field(*parsed, "message")) return *message;
        if (const auto cause = text_field(*parsed, "cause")) return *cause;
    }
    return quoted(text);
}

Result<> check_lines(const std::string& text) {
    for (const std::string& line : split(text, '\n')) {
        if (trim(line).empty()) continue;
        const auto said = detail::parse_answer(line);
        const auto error = said ? text_field(*said, "error") : std::nullopt;
        if (error && !error->empty()) return fail(Code::aborted, Blame::world, "it refuses the image: {}", *error);
    }
    return {};
}

std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                           c == '_' || c == '.';
        out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return out;
}

}  // namespace cooper::handover
