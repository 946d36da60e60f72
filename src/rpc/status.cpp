#include "rpc/status.hpp"

#include "codec/base64.hpp"
#include "codec/go_json.hpp"
#include "proto/errdefs.pb.h"
#include "proto/status.pb.h"

#include <google/protobuf/util/json_util.h>
#include <grpcpp/support/status.h>
#include <nlohmann/json.hpp>

namespace cooper::rpc {

namespace {

constexpr std::string_view kTypePrefix = "github.com/moby/buildkit/";
constexpr std::string_view kTypeSuffix = "+json";
constexpr std::string_view kHint = "cooper.Hint";
// gRPC carries details in a header; files larger than this would not fit there. The client shows no excerpt then.
constexpr std::size_t kMaxSource = 1U << 20U;

void add_position(codec::GoJson& json, std::string_view name, int line, int column) {
    json.key(name).begin_object();
    if (line != 0) json.key("line").integer(line);
    if (column != 0) json.key("character").integer(column);
    json.end_object();
}

// As Go's encoding/json prints errdefs.Source: names of the .proto file, what is empty left out.
std::string source_json(const SourceText& source, const Error& error) {
    codec::GoJson json;
    json.begin_object().key("info").begin_object();
    json.field("filename", source.file);
    if (source.text != nullptr && !source.text->empty()) json.key("data").bytes(*source.text);
    if (!source.language.empty()) json.field("language", source.language);
    json.end_object().key("ranges").begin_array();
    for (const auto& detail : error.details()) {
        const auto* range = std::get_if<SourceRange>(&detail);
        if (range == nullptr || range->file != source.file) continue;
        json.begin_object();
        add_position(json, "start", range->first_line, range->first_column);
        add_position(json, "end", range->last_line, range->last_column);
        json.end_object();
    }
    json.end_array().end_object();
    return std::move(json).take();
}

std::vector<WireDetail> details_of(const Error& error) {
    std::vector<WireDetail> details;
    for (const auto& detail : error.details()) {
        if (const auto* vertex = std::get_if<FailedVertex>(&detail)) {
            codec::GoJson json;
            json.begin_object().field("digest", vertex->digest).end_object();
            details.push_back({"errdefs.Vertex", std::move(json).take()});
        } else if (const auto* source = std::get_if<SourceText>(&detail)) {
            if (source->text != nullptr && source->text->size() > kMaxSource) continue;
            details.push_back({"errdefs.Source", source_json(*source, error)});
        } else if (const auto* exit = std::get_if<ExitStatus>(&detail)) {
            codec::GoJson json;
            json.begin_object().key("Code").unsigned_integer(static_cast<std::uint32_t>(exit->code)).end_object();
            details.push_back({"gatewayapi.ExitMessage", std::move(json).take()});
        }
    }
    if (!error.hint().empty()) {
        codec::GoJson json;
        json.begin_object().field("hint", error.hint()).end_object();
        details.push_back({std::string(kHint), std::move(json).take()});
    }
    return details;
}

// gRPC refuses a status whose message is not UTF-8, and messages may quote what a user gave.
std::string message_of(const Error& error) {
    std::string text = error.to_string();
    if (!error.hint().empty()) text += fmt::format(" ({})", error.hint());
    std::string literal;
    codec::append_go_json_string(literal, text);
    return nlohmann::json::parse(literal, nullptr, false).get<std::string>();
}

int line_of(const nlohmann::json& range, const char* end, const char* what) {
    const auto position = range.find(end);
    if (position == range.end() || !position->is_object()) return 0;
    const auto value = position->find(what);
    if (value == position->end() || !value->is_number_integer()) return 0;
    return static_cast<int>(std::clamp<std::int64_t>(value->get<std::int64_t>(), 0, INT32_MAX));
}

std::string text_of(const nlohmann::json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Error with_source(Error error, const nlohmann::json& json) {
    const auto info = json.find("info");
    if (info == json.end() || !info->is_object()) return error;
    SourceText source{text_of(*info, "filename"), text_of(*info, "language"), nullptr};
    if (auto data = codec::base64_decode(text_of(*info, "data"))) {
        source.text = std::make_shared<const std::string>(std::move(*data));
    }
    if (const auto ranges = json.find("ranges"); ranges != json.end() && ranges->is_array()) {
        for (const auto& range : *ranges) {
            if (!range.is_object()) continue;
            error = error.with_detail(SourceRange{source.file, line_of(range, "start", "line"),
                                                  line_of(range, "end", "line"), line_of(range, "start", "character"),
                                                  line_of(range, "end", "character")});
        }
    }
    return error.with_detail(std::move(source));
}

Error with_wire_detail(Error error, std::string_view name, const nlohmann::json& json) {
    if (!json.is_object()) return error;
    if (name == "errdefs.Vertex") return error.with_detail(FailedVertex{text_of(json, "digest")});
    if (name == "errdefs.Source") return with_source(std::move(error), json);
    if (name == "gatewayapi.ExitMessage") {
        const auto code = json.find("Code");
        const bool given = code != json.end() && code->is_number_unsigned();
        return error.with_detail(ExitStatus{given ? static_cast<int>(code->get<std::uint32_t>()) : 0, false});
    }
    return error;
}

Blame blame_for(Code code) {
    switch (code) {
        case Code::internal:
        case Code::data_loss:
            return Blame::cooper;
        case Code::unavailable:
        case Code::deadline_exceeded:
        case Code::resource_exhausted:
        case Code::aborted:
        case Code::cancelled:
            return Blame::world;
        default:
            return Blame::user;
    }
}

Error from_parts(int code, std::string message, const google::rpc::Status& details) {
    const bool known = code >= static_cast<int>(Code::cancelled) && code <= static_cast<int>(Code::unauthenticated);
    const Code ours = known ? static_cast<Code>(code) : Code::unknown;
    std::vector<std::pair<std::string, nlohmann::json>> parsed;
    std::string hint;
    for (const auto& any : details.details()) {
        std::string_view name = any.type_url();
        if (!name.starts_with(kTypePrefix) || !name.ends_with(kTypeSuffix)) continue;
        name.remove_prefix(kTypePrefix.size());
        name.remove_suffix(kTypeSuffix.size());
        auto json = nlohmann::json::parse(any.value(), nullptr, false);
        if (name == kHint && json.is_object()) {
            hint = text_of(json, "hint");
        } else {
            parsed.emplace_back(name, std::move(json));
        }
    }
    if (const std::string tail = fmt::format(" ({})", hint); !hint.empty() && message.ends_with(tail)) {
        message.resize(message.size() - tail.size());
    }
    Error error(ours, blame_for(ours), std::move(message));
    if (!hint.empty()) error = error.with_hint(std::move(hint));
    for (const auto& [name, json] : parsed) error = with_wire_detail(std::move(error), name, json);
    return error;
}

}  // namespace

void to_message(const Error& error, const std::vector<WireDetail>& more, google::rpc::Status& message) {
    message.set_code(static_cast<int>(error.code()));
    message.set_message(message_of(error));
    auto add = [&message](const WireDetail& detail) {
        auto* any = message.add_details();
        any->set_type_url(fmt::format("{}{}{}", kTypePrefix, detail.name, kTypeSuffix));
        any->set_value(detail.json);
    };
    for (const auto& detail : details_of(error)) add(detail);
    for (const auto& detail : more) add(detail);
}

grpc::Status to_status(const Error& error, const std::vector<WireDetail>& more) {
    google::rpc::Status message;
    to_message(error, more, message);
    return {static_cast<grpc::StatusCode>(message.code()), message.message(), message.SerializeAsString()};
}

grpc::Status to_status(const Error& error) { return to_status(error, {}); }

Error from_message(const google::rpc::Status& message) {
    return from_parts(message.code(), message.message(), message);
}

Error from_status(const grpc::Status& status) {
    google::rpc::Status message;
    if (!message.ParseFromString(status.error_details())) message.Clear();
    return from_parts(static_cast<int>(status.error_code()), status.error_message(), message);
}

Result<WireDetail> to_detail(const SolveFailure& failure) {
    errdefs::Solve solve;
    for (const auto& id : failure.input_ids) solve.add_inputids(id);
    for (const auto& id : failure.mount_ids) solve.add_mountids(id);
    if (!failure.op.empty() && !solve.mutable_op()->ParseFromString(failure.op)) {
        return fail(Code::internal, Blame::cooper, "an operation that failed cannot be read again");
    }
    WireDetail detail{"errdefs.Solve", ""};
    if (const auto printed = google::protobuf::util::MessageToJsonString(solve, &detail.json); !printed.ok()) {
        return fail(Code::internal, Blame::cooper, "an operation that failed cannot be printed: {}",
                    std::string(printed.message()));
    }
    return detail;
}

}  // namespace cooper::rpc
