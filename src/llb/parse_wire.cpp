// The reading side of marshal.hpp: protobuf bytes to values. Unknown fields are skipped; a field of the
// wrong wire type, an index that is no number and anything cut off are errors. Last one wins for
// repeated scalars, as the format demands; a repeated message is replaced, not merged.
#include "codec/wire.hpp"
#include "llb/marshal.hpp"

#include <limits>
#include <type_traits>

namespace cooper::llb {

namespace {

using codec::WireField;
using codec::WireReader;

// More than any real definition has, small enough that a hostile one cannot exhaust memory.
constexpr std::size_t kMaxElements = 1U << 20U;

Error wrong_type(unsigned field) {
    return bad_input("malformed protobuf message: field {} has the wrong wire type", field);
}

Result<> get(std::string& out, const WireField& field) {
    if (!field.is_bytes()) return wrong_type(field.id);
    out = field.bytes;
    return {};
}

Result<> get(bool& out, const WireField& field) {
    if (!field.is_number()) return wrong_type(field.id);
    out = field.number != 0;
    return {};
}

template <class Number>
    requires(std::is_integral_v<Number> && !std::is_same_v<Number, bool>)
Result<> get(Number& out, const WireField& field) {
    if (!field.is_number()) return wrong_type(field.id);
    out = static_cast<Number>(field.number);
    return {};
}

template <class Enum>
    requires std::is_enum_v<Enum>
Result<> get_enum(Enum& out, const WireField& field, Enum last) {
    if (!field.is_number()) return wrong_type(field.id);
    if (field.number > static_cast<std::uint64_t>(last)) {
        return bad_input("unsupported value {} in field {} of an operation", field.number, field.id);
    }
    out = static_cast<Enum>(field.number);
    return {};
}

template <class Value>
Result<> read_message(Value& out, std::string_view bytes);

template <class Value>
    requires std::is_class_v<Value> && (!std::is_same_v<Value, std::string>)
Result<> get(Value& out, const WireField& field) {
    if (!field.is_bytes()) return wrong_type(field.id);
    out = Value{};
    return read_message(out, field.bytes);
}

template <class Value>
Result<> get_optional(std::optional<Value>& out, const WireField& field) {
    out.emplace();
    return get(*out, field);
}

template <class Value>
Result<> append(std::vector<Value>& out, const WireField& field) {
    if (out.size() >= kMaxElements) return bad_input("too many elements in field {} of an operation", field.id);
    out.emplace_back();
    return get(out.back(), field);
}

template <class Number>
Result<> append_packed(std::vector<Number>& out, const WireField& field) {
    if (field.is_number()) {
        out.push_back(static_cast<Number>(field.number));
        return {};
    }
    if (!field.is_bytes()) return wrong_type(field.id);
    WireReader reader(field.bytes);
    while (!reader.done()) {
        if (out.size() >= kMaxElements) return bad_input("too many elements in field {} of an operation", field.id);
        out.push_back(static_cast<Number>(TRY(reader.varint())));
    }
    return {};
}

// Entry of a map: key in field 1, value in field 2.
template <class Value, class ReadValue>
Result<> insert(std::map<std::string, Value>& out, const WireField& field, ReadValue read_value) {
    if (!field.is_bytes()) return wrong_type(field.id);
    if (out.size() >= kMaxElements) return bad_input("too many elements in field {} of an operation", field.id);
    std::string key;
    Value value{};
    WireReader reader(field.bytes);
    while (!reader.done()) {
        const WireField part = TRY(reader.next());
        if (part.id == 1) TRY(get(key, part));
        if (part.id == 2) TRY(read_value(value, part));
    }
    out.insert_or_assign(std::move(key), std::move(value));
    return {};
}

template <class Value>
Result<> insert(std::map<std::string, Value>& out, const WireField& field) {
    return insert(out, field, [](Value& value, const WireField& part) { return get(value, part); });
}

// A message whose only field is an index: MergeInput, BuildInput, LowerDiffInput, UpperDiffInput.
Result<> get_index(std::int64_t& out, const WireField& field) {
    if (!field.is_bytes()) return wrong_type(field.id);
    out = 0;
    WireReader reader(field.bytes);
    while (!reader.done()) {
        const WireField part = TRY(reader.next());
        if (part.id == 1) TRY(get(out, part));
    }
    return {};
}

Result<> field_of(Platform& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return get(out.architecture, field);
        case 2:
            return get(out.os, field);
        case 3:
            return get(out.variant, field);
        case 4:
            return get(out.os_version, field);
        case 5:
            return append(out.os_features, field);
        default:
            return {};
    }
}

Result<> field_of(Input& out, const WireField& field) {
    if (field.id == 2) return get(out.index, field);
    if (field.id != 1) return {};
    std::string text;
    TRY(get(text, field));
    out.digest = TRY_CONTEXT(Digest::parse(text), "input of an operation");
    return {};
}

Result<> field_of(ProxyEnv& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return get(out.http_proxy, field);
        case 2:
            return get(out.https_proxy, field);
        case 3:
            return get(out.ftp_proxy, field);
        case 4:
            return get(out.no_proxy, field);
        case 5:
            return get(out.all_proxy, field);
        default:
            return {};
    }
}

Result<> field_of(HostIp& out, const WireField& field) {
    if (field.id == 1) return get(out.host, field);
    if (field.id == 2) return get(out.ip, field);
    return {};
}

Result<> field_of(Ulimit& out, const WireField& field) {
    if (field.id == 1) return get(out.name, field);
    if (field.id == 2) return get(out.soft, field);
    if (field.id == 3) return get(out.hard, field);
    return {};
}

Result<> field_of(Meta& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return append(out.args, field);
        case 2:
            return append(out.env, field);
        case 3:
            return get(out.cwd, field);
        case 4:
            return get(out.user, field);
        case 5:
            return get_optional(out.proxy_env, field);
        case 6:
            return append(out.extra_hosts, field);
        case 7:
            return get(out.hostname, field);
        case 9:
            return append(out.ulimit, field);
        case 10:
            return get(out.cgroup_parent, field);
        case 11:
            return get(out.remove_mount_stubs_recursive, field);
        case 12:
            return append_packed(out.valid_exit_codes, field);
        default:
            return {};
    }
}

Result<> field_of(TmpfsOpt& out, const WireField& field) {
    return field.id == 1 ? get(out.size_bytes, field) : Result<>{};
}

Result<> field_of(CacheOpt& out, const WireField& field) {
    if (field.id == 1) return get(out.id, field);
    if (field.id == 2) return get_enum(out.sharing, field, CacheSharing::locked);
    return {};
}

template <class Opt>
    requires std::is_same_v<Opt, SecretOpt> || std::is_same_v<Opt, SshOpt>
Result<> field_of(Opt& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return get(out.id, field);
        case 2:
            return get(out.uid, field);
        case 3:
            return get(out.gid, field);
        case 4:
            return get(out.mode, field);
        case 5:
            return get(out.optional, field);
        default:
            return {};
    }
}

Result<> field_of(Mount& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return get(out.input, field);
        case 2:
            return get(out.selector, field);
        case 3:
            return get(out.dest, field);
        case 4:
            return get(out.output, field);
        case 5:
            return get(out.readonly, field);
        case 6:
            return get_enum(out.type, field, MountType::tmpfs);
        case 19:
            return get_optional(out.tmpfs, field);
        case 20:
            return get_optional(out.cache, field);
        case 21:
            return get_optional(out.secret, field);
        case 22:
            return get_optional(out.ssh, field);
        case 23:
            return get(out.result_id, field);
        case 24:
            return get_enum(out.content_cache, field, MountContentCache::off);
        default:
            return {};
    }
}

Result<> field_of(SecretEnv& out, const WireField& field) {
    if (field.id == 1) return get(out.id, field);
    if (field.id == 2) return get(out.name, field);
    if (field.id == 3) return get(out.optional, field);
    return {};
}

Result<> field_of(CdiDevice& out, const WireField& field) {
    if (field.id == 1) return get(out.name, field);
    if (field.id == 2) return get(out.optional, field);
    return {};
}

// proto3 leaves zero out, so what our structs default to -1 must start at zero when read.
Mount blank(std::type_identity<Mount> /*type*/) {
    Mount mount;
    mount.input = 0;
    mount.output = 0;
    return mount;
}

template <class Value>
Value blank(std::type_identity<Value> /*type*/) {
    Value value{};
    if constexpr (std::is_same_v<Value, FileAction>) value.input = value.secondary_input = value.output = 0;
    if constexpr (std::is_same_v<Value, NamedUser>) value.input = 0;
    if constexpr (std::is_same_v<Value, BuildOp>) value.builder = 0;
    if constexpr (std::is_same_v<Value, CopyAction>) value.mode = 0;
    if constexpr (requires { value.timestamp; }) value.timestamp = 0;
    return value;
}

Result<> field_of(ExecOp& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return get(out.meta, field);
        case 2:
            return append(out.mounts, field);
        case 3:
            return get_enum(out.network, field, NetMode::none);
        case 4:
            return get_enum(out.security, field, SecurityMode::insecure);
        case 5:
            return append(out.secret_env, field);
        case 6:
            return append(out.cdi_devices, field);
        default:
            return {};
    }
}

Result<> field_of(SourceOp& out, const WireField& field) {
    if (field.id == 1) return get(out.identifier, field);
    if (field.id == 2) return insert(out.attrs, field);
    return {};
}

Result<> field_of(NamedUser& out, const WireField& field) {
    if (field.id == 1) return get(out.name, field);
    if (field.id == 2) return get(out.input, field);
    return {};
}

struct UserOptReader {
    UserOpt value;
};

Result<> field_of(UserOptReader& out, const WireField& field) {
    if (field.id == 1) return get(out.value.emplace<NamedUser>(), field);
    if (field.id == 2) return get(out.value.emplace<std::uint32_t>(), field);
    return {};
}

Result<> get_user(std::optional<UserOpt>& out, const WireField& field) {
    UserOptReader reader;
    TRY(get(reader, field));
    out = std::move(reader.value);
    return {};
}

Result<> field_of(ChownOpt& out, const WireField& field) {
    if (field.id == 1) return get_user(out.user, field);
    if (field.id == 2) return get_user(out.group, field);
    return {};
}

Result<> field_of(CopyAction& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return get(out.src, field);
        case 2:
            return get(out.dest, field);
        case 3:
            return get_optional(out.owner, field);
        case 4:
            return get(out.mode, field);
        case 5:
            return get(out.follow_symlink, field);
        case 6:
            return get(out.dir_copy_contents, field);
        case 7:
            return get(out.attempt_unpack, field);
        case 8:
            return get(out.create_dest_path, field);
        case 9:
            return get(out.allow_wildcard, field);
        case 10:
            return get(out.allow_empty_wildcard, field);
        case 11:
            return get(out.timestamp, field);
        case 12:
            return append(out.include_patterns, field);
        case 13:
            return append(out.exclude_patterns, field);
        case 14:
            return get(out.always_replace_existing, field);
        case 15:
            return get(out.mode_str, field);
        case 16:
            return append(out.required_paths, field);
        default:
            return {};
    }
}

Result<> field_of(MkFileAction& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return get(out.path, field);
        case 2:
            return get(out.mode, field);
        case 3:
            return get(out.data, field);
        case 4:
            return get_optional(out.owner, field);
        case 5:
            return get(out.timestamp, field);
        default:
            return {};
    }
}

Result<> field_of(MkDirAction& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return get(out.path, field);
        case 2:
            return get(out.mode, field);
        case 3:
            return get(out.make_parents, field);
        case 4:
            return get_optional(out.owner, field);
        case 5:
            return get(out.timestamp, field);
        default:
            return {};
    }
}

Result<> field_of(RmAction& out, const WireField& field) {
    if (field.id == 1) return get(out.path, field);
    if (field.id == 2) return get(out.allow_not_found, field);
    if (field.id == 3) return get(out.allow_wildcard, field);
    return {};
}

Result<> field_of(SymlinkAction& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return get(out.old_path, field);
        case 2:
            return get(out.new_path, field);
        case 3:
            return get_optional(out.owner, field);
        case 4:
            return get(out.timestamp, field);
        default:
            return {};
    }
}

Result<> field_of(FileAction& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return get(out.input, field);
        case 2:
            return get(out.secondary_input, field);
        case 3:
            return get(out.output, field);
        case 4:
            return get(out.action.emplace<CopyAction>(), field);
        case 5:
            return get(out.action.emplace<MkFileAction>(), field);
        case 6:
            return get(out.action.emplace<MkDirAction>(), field);
        case 7:
            return get(out.action.emplace<RmAction>(), field);
        case 8:
            return get(out.action.emplace<SymlinkAction>(), field);
        default:
            return {};
    }
}

Result<> field_of(FileOp& out, const WireField& field) {
    return field.id == 2 ? append(out.actions, field) : Result<>{};
}

Result<> field_of(BuildOp& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return get(out.builder, field);
        case 2:
            return insert(out.inputs, field, get_index);
        case 3:
            return get(out.definition, field);
        case 4:
            return insert(out.attrs, field);
        default:
            return {};
    }
}

Result<> field_of(MergeOp& out, const WireField& field) {
    if (field.id != 1) return {};
    if (out.inputs.size() >= kMaxElements) return bad_input("too many inputs of a merge");
    return get_index(out.inputs.emplace_back(), field);
}

// Whether lower and upper are there at all matters: leaving one out is an error.
constexpr std::int64_t kAbsent = std::numeric_limits<std::int64_t>::min();

Result<> field_of(DiffOp& out, const WireField& field) {
    if (field.id == 1) return get_index(out.lower, field);
    if (field.id == 2) return get_index(out.upper, field);
    return {};
}

Result<> field_of(PassthroughOp& out, const WireField& field) {
    if (field.id == 1) return get(out.id, field);
    if (field.id == 2) return append_packed(out.outputs, field);
    return {};
}

struct Constraints {
    std::vector<std::string> filter;
};

Result<> field_of(Constraints& out, const WireField& field) {
    return field.id == 1 ? append(out.filter, field) : Result<>{};
}

Result<> field_of(Op& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return append(out.inputs, field);
        case 2:
            return get(out.body.emplace<ExecOp>(), field);
        case 3:
            return get(out.body.emplace<SourceOp>(), field);
        case 4:
            return get(out.body.emplace<FileOp>(), field);
        case 5:
            return get(out.body.emplace<BuildOp>(), field);
        case 6:
            return get(out.body.emplace<MergeOp>(), field);
        case 7:
            return get(out.body.emplace<DiffOp>(), field);
        case 8:
            return get(out.body.emplace<PassthroughOp>(), field);
        case 10:
            return get_optional(out.platform, field);
        case 11: {
            Constraints constraints;
            TRY(get(constraints, field));
            out.constraints = std::move(constraints.filter);
            return {};
        }
        default:
            return {};
    }
}

Result<> field_of(OpProgressGroup& out, const WireField& field) {
    if (field.id == 1) return get(out.id, field);
    if (field.id == 2) return get(out.name, field);
    if (field.id == 3) return get(out.weak, field);
    return {};
}

Result<> field_of(LinuxResources& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return get(out.memory_bytes, field);
        case 2:
            return get(out.memory_swap_bytes, field);
        case 3:
            return get(out.cpu_shares, field);
        case 4:
            return get(out.cpu_period_us, field);
        case 5:
            return get(out.cpu_quota_us, field);
        case 6:
            return get(out.cpuset_cpus, field);
        case 7:
            return get(out.cpuset_mems, field);
        default:
            return {};
    }
}

struct ExportCache {
    bool value = false;
};

Result<> field_of(ExportCache& out, const WireField& field) {
    return field.id == 1 ? get(out.value, field) : Result<>{};
}

Result<> field_of(OpMetadata& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return get(out.ignore_cache, field);
        case 2:
            return insert(out.description, field);
        case 4: {
            ExportCache exported;
            TRY(get(exported, field));
            out.export_cache = exported.value;
            return {};
        }
        case 5:
            return insert(out.caps, field);
        case 6:
            return get_optional(out.progress_group, field);
        case 7:
            return get_optional(out.linux_resources, field);
        default:
            return {};
    }
}

Result<> field_of(Position& out, const WireField& field) {
    if (field.id == 1) return get(out.line, field);
    if (field.id == 2) return get(out.character, field);
    return {};
}

Result<> field_of(Range& out, const WireField& field) {
    if (field.id == 1) return get(out.start, field);
    if (field.id == 2) return get(out.end, field);
    return {};
}

Result<> field_of(Location& out, const WireField& field) {
    if (field.id == 1) return get(out.source_index, field);
    if (field.id == 2) return append(out.ranges, field);
    return {};
}

struct Locations {
    std::vector<Location> list;
};

Result<> field_of(Locations& out, const WireField& field) {
    return field.id == 1 ? append(out.list, field) : Result<>{};
}

Result<> field_of(SourceInfo& out, const WireField& field) {
    switch (field.id) {
        case 1:
            return get(out.filename, field);
        case 2:
            return get(out.data, field);
        case 3:
            return get(out.definition, field);
        case 4:
            return get(out.language, field);
        default:
            return {};
    }
}

Result<> field_of(SourceMap& out, const WireField& field) {
    if (field.id == 2) return append(out.infos, field);
    if (field.id != 1) return {};
    return insert(out.locations, field, [](std::vector<Location>& value, const WireField& part) -> Result<> {
        Locations locations;
        TRY(get(locations, part));
        value = std::move(locations.list);
        return {};
    });
}

Result<> field_of(Definition& out, const WireField& field) {
    if (field.id == 1) return append(out.ops, field);
    if (field.id == 2) return insert(out.metadata, field);
    if (field.id == 3) return get_optional(out.source, field);
    return {};
}

template <class Value>
Result<> read_message(Value& out, std::string_view bytes) {
    out = blank(std::type_identity<Value>{});
    if constexpr (std::is_same_v<Value, DiffOp>) out.lower = out.upper = kAbsent;
    WireReader reader(bytes);
    while (!reader.done()) {
        const WireField field = TRY(reader.next());
        TRY(field_of(out, field));
    }
    return {};
}

}  // namespace

Result<Op> parse_op(std::string_view bytes) {
    Op op;
    TRY_CONTEXT(read_message(op, bytes), "parse LLB operation");
    return op;
}

Result<Definition> parse_definition(std::string_view bytes) {
    Definition definition;
    TRY_CONTEXT(read_message(definition, bytes), "parse LLB definition");
    return definition;
}

}  // namespace cooper::llb
