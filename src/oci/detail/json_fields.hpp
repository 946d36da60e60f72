// Reading fields of a JSON object with Go's habits (absent and null are the zero value) and with
// messages that name the field. Only for the .cpp files of this room.
#pragma once

#include "base/digest.hpp"
#include "oci/descriptor.hpp"

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::oci::detail {

using Json = nlohmann::ordered_json;

// Bounded by json_text.hpp; never throws. The top must be an object.
Result<Json> parse_object(std::string_view text, std::size_t max_bytes, std::string_view what);
// Go's text of a value: compact, or indented by two spaces.
std::string print_compact(const Json& value);
std::string print_indented(const Json& value);

// nullptr when absent or null.
const Json* field(const Json& object, const char* key);
Result<> read(const Json& object, const char* key, std::string& out);
Result<> read(const Json& object, const char* key, bool& out);
Result<> read(const Json& object, const char* key, std::int64_t& out);
Result<> read(const Json& object, const char* key, std::vector<std::string>& out);
Result<> read(const Json& object, const char* key, std::map<std::string, std::string>& out);
Result<> read_set(const Json& object, const char* key, std::set<std::string>& out);  // {"a":{}}
Result<> read(const Json& object, const char* key, Digest& out);

Result<Descriptor> descriptor_from(const Json& object);
Json to_json(const Descriptor& descriptor);
Result<Platform> platform_from(const Json& object);
void write_platform(Json& object, const Platform& platform);

}  // namespace cooper::oci::detail
