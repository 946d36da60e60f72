#include "llb/proto_json.hpp"

#include "codec/wire.hpp"

#include <array>
#include <fmt/format.h>
#include <map>
#include <span>
#include <vector>

namespace cooper::llb {

namespace {

enum class Kind : std::uint8_t { text, bytes, boolean, int32, uint32, int64, uint64, enumeration, message, text_map };
enum class Count : std::uint8_t { one, many, chosen };  // chosen: of a oneof, written even when zero

struct Field;
using Shape = std::span<const Field>;
using Names = std::span<const std::string_view>;
struct Field {
    unsigned id;
    std::string_view name;
    Kind kind;
    Count count = Count::one;
    Shape shape = {};
    Names names = {};
};

// --- ops.proto ---

constexpr std::array<std::string_view, 3> kNetModes = {"UNSET", "HOST", "NONE"};
constexpr std::array<std::string_view, 2> kSecurityModes = {"SANDBOX", "INSECURE"};
constexpr std::array<std::string_view, 5> kMountTypes = {"BIND", "SECRET", "SSH", "CACHE", "TMPFS"};
constexpr std::array<std::string_view, 3> kContentCaches = {"DEFAULT", "ON", "OFF"};
constexpr std::array<std::string_view, 3> kSharings = {"SHARED", "PRIVATE", "LOCKED"};

constexpr Field kPlatform[] = {{1, "Architecture", Kind::text},
                               {2, "OS", Kind::text},
                               {3, "Variant", Kind::text},
                               {4, "OSVersion", Kind::text},
                               {5, "OSFeatures", Kind::text, Count::many}};
constexpr Field kInput[] = {{1, "digest", Kind::text}, {2, "index", Kind::int64}};
constexpr Field kProxyEnv[] = {{1, "httpProxy", Kind::text},
                               {2, "httpsProxy", Kind::text},
                               {3, "ftpProxy", Kind::text},
                               {4, "noProxy", Kind::text},
                               {5, "allProxy", Kind::text}};
constexpr Field kHostIp[] = {{1, "Host", Kind::text}, {2, "IP", Kind::text}};
constexpr Field kUlimit[] = {{1, "Name", Kind::text}, {2, "Soft", Kind::int64}, {3, "Hard", Kind::int64}};
constexpr Field kMeta[] = {{1, "args", Kind::text, Count::many},
                           {2, "env", Kind::text, Count::many},
                           {3, "cwd", Kind::text},
                           {4, "user", Kind::text},
                           {5, "proxyEnv", Kind::message, Count::one, kProxyEnv},
                           {6, "extraHosts", Kind::message, Count::many, kHostIp},
                           {7, "hostname", Kind::text},
                           {9, "ulimit", Kind::message, Count::many, kUlimit},
                           {10, "cgroupParent", Kind::text},
                           {11, "removeMountStubsRecursive", Kind::boolean},
                           {12, "validExitCodes", Kind::int32, Count::many}};
constexpr Field kTmpfs[] = {{1, "size", Kind::int64}};
constexpr Field kCacheOpt[] = {{1, "ID", Kind::text}, {2, "sharing", Kind::enumeration, Count::one, {}, kSharings}};
constexpr Field kSecretOpt[] = {{1, "ID", Kind::text},
                                {2, "uid", Kind::uint32},
                                {3, "gid", Kind::uint32},
                                {4, "mode", Kind::uint32},
                                {5, "optional", Kind::boolean}};
constexpr Field kMount[] = {{1, "input", Kind::int64},
                            {2, "selector", Kind::text},
                            {3, "dest", Kind::text},
                            {4, "output", Kind::int64},
                            {5, "readonly", Kind::boolean},
                            {6, "mountType", Kind::enumeration, Count::one, {}, kMountTypes},
                            {19, "TmpfsOpt", Kind::message, Count::one, kTmpfs},
                            {20, "cacheOpt", Kind::message, Count::one, kCacheOpt},
                            {21, "secretOpt", Kind::message, Count::one, kSecretOpt},
                            {22, "SSHOpt", Kind::message, Count::one, kSecretOpt},
                            {23, "resultID", Kind::text},
                            {24, "contentCache", Kind::enumeration, Count::one, {}, kContentCaches}};
constexpr Field kSecretEnv[] = {{1, "ID", Kind::text}, {2, "name", Kind::text}, {3, "optional", Kind::boolean}};
constexpr Field kCdiDevice[] = {{1, "name", Kind::text}, {2, "optional", Kind::boolean}};
constexpr Field kExec[] = {{1, "meta", Kind::message, Count::one, kMeta},
                           {2, "mounts", Kind::message, Count::many, kMount},
                           {3, "network", Kind::enumeration, Count::one, {}, kNetModes},
                           {4, "security", Kind::enumeration, Count::one, {}, kSecurityModes},
                           {5, "secretenv", Kind::message, Count::many, kSecretEnv},
                           {6, "cdiDevices", Kind::message, Count::many, kCdiDevice}};
constexpr Field kSource[] = {{1, "identifier", Kind::text}, {2, "attrs", Kind::text_map}};
constexpr Field kNamedUser[] = {{1, "name", Kind::text}, {2, "input", Kind::int64}};
constexpr Field kUser[] = {{1, "byName", Kind::message, Count::one, kNamedUser},
                           {2, "byID", Kind::uint32, Count::chosen}};
constexpr Field kOwner[] = {{1, "user", Kind::message, Count::one, kUser},
                            {2, "group", Kind::message, Count::one, kUser}};
constexpr Field kCopy[] = {{1, "src", Kind::text},
                           {2, "dest", Kind::text},
                           {3, "owner", Kind::message, Count::one, kOwner},
                           {4, "mode", Kind::int32},
                           {5, "followSymlink", Kind::boolean},
                           {6, "dirCopyContents", Kind::boolean},
                           {7, "attemptUnpackDockerCompatibility", Kind::boolean},
                           {8, "createDestPath", Kind::boolean},
                           {9, "allowWildcard", Kind::boolean},
                           {10, "allowEmptyWildcard", Kind::boolean},
                           {11, "timestamp", Kind::int64},
                           {12, "includePatterns", Kind::text, Count::many},
                           {13, "excludePatterns", Kind::text, Count::many},
                           {14, "alwaysReplaceExistingDestPaths", Kind::boolean},
                           {15, "modeStr", Kind::text},
                           {16, "requiredPaths", Kind::text, Count::many}};
constexpr Field kMkFile[] = {{1, "path", Kind::text},
                             {2, "mode", Kind::int32},
                             {3, "data", Kind::bytes},
                             {4, "owner", Kind::message, Count::one, kOwner},
                             {5, "timestamp", Kind::int64}};
constexpr Field kMkDir[] = {{1, "path", Kind::text},
                            {2, "mode", Kind::int32},
                            {3, "makeParents", Kind::boolean},
                            {4, "owner", Kind::message, Count::one, kOwner},
                            {5, "timestamp", Kind::int64}};
constexpr Field kRm[] = {
    {1, "path", Kind::text}, {2, "allowNotFound", Kind::boolean}, {3, "allowWildcard", Kind::boolean}};
constexpr Field kSymlink[] = {{1, "oldpath", Kind::text},
                              {2, "newpath", Kind::text},
                              {3, "owner", Kind::message, Count::one, kOwner},
                              {4, "timestamp", Kind::int64}};
constexpr Field kAction[] = {{1, "input", Kind::int64},
                             {2, "secondaryInput", Kind::int64},
                             {3, "output", Kind::int64},
                             {4, "copy", Kind::message, Count::one, kCopy},
                             {5, "mkfile", Kind::message, Count::one, kMkFile},
                             {6, "mkdir", Kind::message, Count::one, kMkDir},
                             {7, "rm", Kind::message, Count::one, kRm},
                             {8, "symlink", Kind::message, Count::one, kSymlink}};
constexpr Field kFile[] = {{2, "actions", Kind::message, Count::many, kAction}};
constexpr Field kOneInput[] = {{1, "input", Kind::int64}};
constexpr Field kMerge[] = {{1, "inputs", Kind::message, Count::many, kOneInput}};
constexpr Field kDiff[] = {{1, "lower", Kind::message, Count::one, kOneInput},
                           {2, "upper", Kind::message, Count::one, kOneInput}};
constexpr Field kPassthrough[] = {{1, "id", Kind::text}, {2, "outputs", Kind::int64, Count::many}};
constexpr Field kConstraints[] = {{1, "filter", Kind::text, Count::many}};
constexpr Field kOp[] = {{1, "inputs", Kind::message, Count::many, kInput},
                         {2, "exec", Kind::message, Count::one, kExec},
                         {3, "source", Kind::message, Count::one, kSource},
                         {4, "file", Kind::message, Count::one, kFile},
                         {6, "merge", Kind::message, Count::one, kMerge},
                         {7, "diff", Kind::message, Count::one, kDiff},
                         {8, "passthrough", Kind::message, Count::one, kPassthrough},
                         {10, "platform", Kind::message, Count::one, kPlatform},
                         {11, "constraints", Kind::message, Count::one, kConstraints}};

// --- writing ---

bool is_number(Kind kind) {
    return kind != Kind::text && kind != Kind::bytes && kind != Kind::message && kind != Kind::text_map;
}

class ProtoJson {
public:
    explicit ProtoJson(codec::GoJson& json) : json_(json) {}

    Result<> message(std::string_view bytes, Shape shape) {
        std::map<unsigned, std::vector<codec::WireField>> values;
        for (codec::WireReader reader(bytes); !reader.done();) {
            const codec::WireField field = TRY(reader.next());
            values[field.id].push_back(field);
        }
        json_.begin_object();
        for (const Field& field : shape) {
            const auto found = values.find(field.id);
            if (found != values.end()) TRY(put(field, found->second));
        }
        json_.end_object();
        return {};
    }

private:
    Result<> put(const Field& field, std::vector<codec::WireField>& values) {
        if (field.kind == Kind::text_map) return put_map(field, values);
        if (is_number(field.kind)) values = TRY(unpacked(values));
        if (field.count == Count::many) {
            json_.key(field.name).begin_array();
            for (const codec::WireField& value : values) TRY(put_value(field, value));
            json_.end_array();
            return {};
        }
        // Of a field that is there several times the last one counts.
        const codec::WireField& value = values.back();
        const bool zero = is_number(field.kind) ? value.number == 0 : value.bytes.empty();
        if (zero && field.kind != Kind::message && field.count != Count::chosen) return {};
        json_.key(field.name);
        return put_value(field, value);
    }

    // Numbers of a repeated field may be packed into one.
    static Result<std::vector<codec::WireField>> unpacked(const std::vector<codec::WireField>& values) {
        std::vector<codec::WireField> out;
        for (const codec::WireField& value : values) {
            if (!value.is_bytes()) {
                out.push_back(value);
                continue;
            }
            for (codec::WireReader reader(value.bytes); !reader.done();) {
                codec::WireField number = value;
                number.type = codec::WireType::varint;
                number.number = TRY(reader.varint());
                out.push_back(number);
            }
        }
        if (out.empty()) out.emplace_back();
        return out;
    }

    Result<> put_value(const Field& field, const codec::WireField& value) {
        if (is_number(field.kind) != value.is_number()) return bad_input("field {} has another type", field.name);
        switch (field.kind) {
            case Kind::text:
                json_.string(value.bytes);
                break;
            case Kind::bytes:
                json_.bytes(value.bytes);
                break;
            case Kind::boolean:
                json_.boolean(value.number != 0);
                break;
            case Kind::int32:
                json_.integer(value.int32());
                break;
            case Kind::uint32:
                json_.unsigned_integer(value.number & 0xFFFFFFFFU);
                break;
            case Kind::int64:
                json_.string(std::to_string(value.int64()));
                break;
            case Kind::uint64:
                json_.string(std::to_string(value.number));
                break;
            case Kind::enumeration:
                if (value.number < field.names.size()) {
                    json_.string(field.names[value.number]);
                } else {
                    json_.integer(value.int32());
                }
                break;
            case Kind::message:
                return message(value.bytes, field.shape);
            case Kind::text_map:
                break;
        }
        return {};
    }

    Result<> put_map(const Field& field, const std::vector<codec::WireField>& values) {
        std::map<std::string, std::string> entries;
        for (const codec::WireField& value : values) {
            std::string key;
            std::string text;
            for (codec::WireReader reader(value.bytes); !reader.done();) {
                const codec::WireField part = TRY(reader.next());
                if (part.id == 1) key = part.bytes;
                if (part.id == 2) text = part.bytes;
            }
            entries[key] = std::move(text);
        }
        json_.key(field.name).map(entries);
        return {};
    }

    codec::GoJson& json_;
};

void put_position(codec::GoJson& json, const Position& position) {
    json.begin_object();
    if (position.line != 0) json.key("line").integer(position.line);
    if (position.character != 0) json.key("character").integer(position.character);
    json.end_object();
}

void put_location(codec::GoJson& json, const Location& location) {
    json.begin_object();
    if (location.source_index != 0) json.key("sourceIndex").integer(location.source_index);
    if (!location.ranges.empty()) {
        json.key("ranges").begin_array();
        for (const Range& range : location.ranges) {
            json.begin_object().key("start");
            put_position(json, range.start);
            json.key("end");
            put_position(json, range.end);
            json.end_object();
        }
        json.end_array();
    }
    json.end_object();
}

}  // namespace

Result<> put_proto_json(codec::GoJson& json, std::string_view op_bytes) {
    return ProtoJson(json).message(op_bytes, kOp);
}

void put_proto_json(codec::GoJson& json, const SourceMap& source) {
    json.begin_object();
    if (!source.locations.empty()) {
        json.key("locations").begin_object();
        for (const auto& [digest, locations] : source.locations) {
            json.key(digest).begin_object().key("locations").begin_array();
            for (const Location& location : locations) put_location(json, location);
            json.end_array().end_object();
        }
        json.end_object();
    }
    if (!source.infos.empty()) {
        json.key("infos").begin_array();
        for (const SourceInfo& info : source.infos) {
            json.begin_object();
            json.field("filename", info.filename);
            if (!info.data.empty()) json.key("data").bytes(info.data);
            json.field("language", info.language);
            json.end_object();
        }
        json.end_array();
    }
    json.end_object();
}

}  // namespace cooper::llb
