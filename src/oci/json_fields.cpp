#include "oci/detail/json_fields.hpp"

#include "base/text.hpp"
#include "oci/json_text.hpp"

#include <nlohmann/json.hpp>

namespace cooper::oci::detail {
namespace {

Error wrong_type(const char* key, std::string_view wanted, const Json& found) {
    return bad_input("field {} must be {}, found {}", quoted(key), wanted, found.type_name());
}

constexpr std::size_t kMaxItems = 10'000;

}  // namespace

Result<Json> parse_object(std::string_view text, std::size_t max_bytes, std::string_view what) {
    TRY(check_json_bounds(text, max_bytes, what));
    Json value = Json::parse(text.begin(), text.end(), nullptr, false);
    if (value.is_discarded()) return bad_input("{} is not valid JSON", what);
    if (!value.is_object()) return bad_input("{} is not a JSON object", what);
    return value;
}

std::string print_compact(const Json& value) {
    return go_escape(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}
std::string print_indented(const Json& value) {
    return go_escape(value.dump(2, ' ', false, Json::error_handler_t::replace));
}

const Json* field(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
}

Result<> read(const Json& object, const char* key, std::string& out) {
    const Json* value = field(object, key);
    if (!value) return {};
    if (!value->is_string()) return wrong_type(key, "a string", *value);
    out = value->get_ref<const std::string&>();
    return {};
}

Result<> read(const Json& object, const char* key, bool& out) {
    const Json* value = field(object, key);
    if (!value) return {};
    if (!value->is_boolean()) return wrong_type(key, "true or false", *value);
    out = value->get<bool>();
    return {};
}

Result<> read(const Json& object, const char* key, std::int64_t& out) {
    const Json* value = field(object, key);
    if (!value) return {};
    if (!value->is_number_integer()) return wrong_type(key, "a whole number", *value);
    if (value->is_number_unsigned() && value->get<std::uint64_t>() > INT64_MAX) {
        return bad_input("field {} is too large", quoted(key));
    }
    out = value->get<std::int64_t>();
    return {};
}

Result<> read(const Json& object, const char* key, std::vector<std::string>& out) {
    const Json* value = field(object, key);
    if (!value) return {};
    // Very old Docker images have a bare string for Cmd and Entrypoint.
    if (value->is_string()) {
        out = {value->get<std::string>()};
        return {};
    }
    if (!value->is_array()) return wrong_type(key, "a list of strings", *value);
    if (value->size() > kMaxItems) return bad_input("field {} has more than {} items", quoted(key), kMaxItems);
    out.clear();
    for (const Json& item : *value) {
        if (!item.is_string()) return wrong_type(key, "a list of strings", item);
        out.push_back(item.get<std::string>());
    }
    return {};
}

Result<> read(const Json& object, const char* key, std::map<std::string, std::string>& out) {
    const Json* value = field(object, key);
    if (!value) return {};
    if (!value->is_object()) return wrong_type(key, "an object of strings", *value);
    if (value->size() > kMaxItems) return bad_input("field {} has more than {} items", quoted(key), kMaxItems);
    out.clear();
    for (const auto& [name, item] : value->items()) {
        if (item.is_null()) {
            out[name].clear();
            continue;
        }
        if (!item.is_string()) return wrong_type(key, "an object of strings", item);
        out[name] = item.get<std::string>();
    }
    return {};
}

Result<> read_set(const Json& object, const char* key, std::set<std::string>& out) {
    const Json* value = field(object, key);
    if (!value) return {};
    if (!value->is_object()) return wrong_type(key, "an object", *value);
    if (value->size() > kMaxItems) return bad_input("field {} has more than {} items", quoted(key), kMaxItems);
    out.clear();
    for (const auto& [name, item] : value->items()) out.insert(name);
    return {};
}

Result<> read(const Json& object, const char* key, Digest& out) {
    std::string text;
    TRY(read(object, key, text));
    if (text.empty()) return {};
    out = TRY_CONTEXT(Digest::parse(text), "field {}", quoted(key));
    return {};
}

Result<Platform> platform_from(const Json& object) {
    if (!object.is_object()) return wrong_type("platform", "an object", object);
    Platform platform;
    TRY(read(object, "os", platform.os));
    TRY(read(object, "architecture", platform.architecture));
    TRY(read(object, "variant", platform.variant));
    TRY(read(object, "os.version", platform.os_version));
    TRY(read(object, "os.features", platform.os_features));
    return platform;
}

void write_platform(Json& object, const Platform& platform) {
    object["architecture"] = platform.architecture;
    object["os"] = platform.os;
    if (!platform.os_version.empty()) object["os.version"] = platform.os_version;
    if (!platform.os_features.empty()) object["os.features"] = platform.os_features;
    if (!platform.variant.empty()) object["variant"] = platform.variant;
}

Result<Descriptor> descriptor_from(const Json& object) {
    if (!object.is_object()) return wrong_type("descriptor", "an object", object);
    Descriptor descriptor;
    TRY(read(object, "mediaType", descriptor.media_type));
    TRY(read(object, "digest", descriptor.digest));
    if (descriptor.digest.empty()) return bad_input("a descriptor has no digest");
    std::int64_t size = 0;
    TRY(read(object, "size", size));
    if (size < 0) return bad_input("descriptor {} has the size {}", descriptor.digest.to_string(), size);
    descriptor.size = static_cast<std::uint64_t>(size);
    TRY(read(object, "urls", descriptor.urls));
    TRY(read(object, "annotations", descriptor.annotations));
    TRY(read(object, "data", descriptor.data));
    if (const Json* platform = field(object, "platform")) descriptor.platform = TRY(platform_from(*platform));
    TRY(read(object, "artifactType", descriptor.artifact_type));
    return descriptor;
}

Json to_json(const Descriptor& descriptor) {
    Json object = Json::object();
    object["mediaType"] = descriptor.media_type;
    object["digest"] = descriptor.digest.to_string();
    object["size"] = descriptor.size;
    if (!descriptor.urls.empty()) object["urls"] = descriptor.urls;
    if (!descriptor.annotations.empty()) object["annotations"] = descriptor.annotations;
    if (!descriptor.data.empty()) object["data"] = descriptor.data;
    if (descriptor.platform) {
        Json platform = Json::object();
        write_platform(platform, *descriptor.platform);
        object["platform"] = std::move(platform);
    }
    if (!descriptor.artifact_type.empty()) object["artifactType"] = descriptor.artifact_type;
    return object;
}

}  // namespace cooper::oci::detail

namespace cooper::oci {

Result<Descriptor> parse_descriptor(std::string_view json) {
    const auto object = TRY(detail::parse_object(json, 1u << 20, "descriptor"));
    return detail::descriptor_from(object);
}

std::string marshal_descriptor(const Descriptor& descriptor) {
    return detail::print_compact(detail::to_json(descriptor));
}

}  // namespace cooper::oci
