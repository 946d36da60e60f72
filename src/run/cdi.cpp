#include "run/cdi.hpp"

#include "base/text.hpp"
#include "sys/fd.hpp"
#include "sys/rooted_dir.hpp"

#include <algorithm>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <set>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace cooper::run {

using nlohmann::json;

namespace {

constexpr std::size_t kMaxSpecBytes = 4U << 20U;
constexpr const char* kClassAnnotation = "org.mobyproject.buildkit.device.class";
constexpr const char* kAutoAllowAnnotation = "org.mobyproject.buildkit.device.autoallow";

bool is_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

// A letter or digit at both ends, and between them also those of `inner`.
bool is_word(std::string_view text, std::string_view inner) {
    if (text.empty() || !is_alnum(text.front()) || !is_alnum(text.back())) return false;
    return std::ranges::all_of(text, [&](char c) { return is_alnum(c) || inner.find(c) != std::string_view::npos; });
}

Result<> check_kind(std::string_view kind) {
    const auto [vendor, name] = cut(kind, '/');
    if (!name || !is_word(vendor, "_-.") || !is_word(*name, "_-"))
        return bad_input("{} is no kind of device: want VENDOR/CLASS", quoted(kind));
    return {};
}

// Fields of one object; a field of another type is an error.
class Fields {
public:
    explicit Fields(const json& object) : object_(object) {}

    Result<std::string> text(const char* key) const {
        const json* value = find(key);
        if (value == nullptr) return std::string();
        if (!value->is_string()) return wrong(key);
        return value->get<std::string>();
    }
    Result<std::optional<std::int64_t>> number(const char* key) const {
        const json* value = find(key);
        if (value == nullptr) return std::optional<std::int64_t>();
        if (!value->is_number_integer()) return wrong(key);
        return std::optional(value->get<std::int64_t>());
    }
    Result<std::vector<std::string>> texts(const char* key) const {
        std::vector<std::string> out;
        for (const json& item : TRY(list(key))) {
            if (!item.is_string()) return wrong(key);
            out.push_back(item.get<std::string>());
        }
        return out;
    }
    Result<std::vector<json>> list(const char* key) const {
        const json* value = find(key);
        if (value == nullptr) return std::vector<json>();
        if (!value->is_array()) return wrong(key);
        return std::vector<json>(value->begin(), value->end());
    }

private:
    const json* find(const char* key) const {
        if (!object_.is_object()) return nullptr;
        const auto found = object_.find(key);
        return found == object_.end() || found->is_null() ? nullptr : &*found;
    }
    static Error wrong(const char* key) { return bad_input("{} has the wrong type", quoted(key)); }
    const json& object_;
};

Result<std::uint32_t> small(const Fields& fields, const char* key) {
    const auto number = TRY(fields.number(key));
    if (!number) return std::uint32_t{0};
    if (*number < 0 || *number > 0xffffffffLL) return bad_input("{} is out of range: {}", quoted(key), *number);
    return static_cast<std::uint32_t>(*number);
}

Result<DeviceNode> parse_node(const json& object) {
    const Fields fields(object);
    DeviceNode node;
    node.path = TRY(fields.text("path"));
    if (!node.path.starts_with("/dev/") || node.path.find("/..") != std::string::npos)
        return bad_input("device node {} is not below /dev", quoted(node.path));
    const std::string type = TRY(fields.text("type"));
    node.major = TRY(small(fields, "major"));
    node.minor = TRY(small(fields, "minor"));
    if (const std::string access = TRY(fields.text("permissions")); !access.empty()) {
        if (access.find_first_not_of("rwm") != std::string::npos)
            return bad_input("permissions {} of {} are not of r, w and m", quoted(access), node.path);
        node.access = access;
    }
    if (TRY(fields.number("fileMode"))) node.mode = TRY(small(fields, "fileMode")) & 07777U;
    if (TRY(fields.number("uid"))) node.uid = TRY(small(fields, "uid"));
    if (TRY(fields.number("gid"))) node.gid = TRY(small(fields, "gid"));
    if (type == "p" || (!type.empty() && node.major != 0)) {
        if (type != "p" && type != "c" && type != "b" && type != "u")
            return bad_input("device node {} has the unknown type {}", node.path, quoted(type));
        node.type = type == "u" ? 'c' : type.front();
        return node;
    }
    // What is not said is as it is on this machine.
    std::string host = TRY(fields.text("hostPath"));
    if (host.empty()) host = node.path;
    struct stat st{};
    if (::stat(host.c_str(), &st) != 0) return fail_errno(errno, "device " + host);
    if (S_ISFIFO(st.st_mode)) {
        node.type = 'p';
        return node;
    }
    if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode)) return bad_input("{} is not a device", host);
    node.type = S_ISCHR(st.st_mode) ? 'c' : 'b';
    node.major = major(st.st_rdev);
    node.minor = minor(st.st_rdev);
    return node;
}

Result<CdiMount> parse_cdi_mount(const json& object) {
    static const std::set<std::string, std::less<>> kFlags = {
        "nosuid", "suid", "noexec", "exec", "nodev", "dev", "noatime", "relatime", "nodiratime", "sync", "strictatime"};
    const Fields fields(object);
    CdiMount mount;
    mount.host_path = TRY(fields.text("hostPath"));
    mount.target = TRY(fields.text("containerPath"));
    if (!mount.host_path.starts_with('/') || !mount.target.starts_with('/'))
        return bad_input("a mount needs an absolute hostPath and containerPath");
    const std::string type = TRY(fields.text("type"));
    if (!type.empty() && type != "bind" && type != "none")
        return bad_input("a mount of type {} cannot be made for a device", quoted(type));
    for (const std::string& option : TRY(fields.texts("options"))) {
        if (option == "ro") mount.read_only = true;
        if (kFlags.contains(option)) mount.options.push_back(option);
    }
    return mount;
}

Result<Hook> parse_hook(const json& object) {
    static const std::set<std::string, std::less<>> kStages = {"prestart",       "createRuntime", "createContainer",
                                                               "startContainer", "poststart",     "poststop"};
    const Fields fields(object);
    Hook hook;
    hook.stage = TRY(fields.text("hookName"));
    if (!kStages.contains(hook.stage)) return bad_input("hook {} is unknown", quoted(hook.stage));
    hook.program = TRY(fields.text("path"));
    if (!hook.program.starts_with('/')) return bad_input("hook {}: path {} is not absolute", hook.stage, hook.program);
    hook.args = TRY(fields.texts("args"));
    hook.env = TRY(fields.texts("env"));
    hook.timeout_s = TRY(fields.number("timeout"));
    return hook;
}

Result<> add_edits(const json& object, DeviceEdits& edits) {
    const auto found = object.find("containerEdits");
    if (found == object.end() || found->is_null()) return {};
    if (!found->is_object()) return bad_input("\"containerEdits\" has the wrong type");
    const Fields fields(*found);
    for (std::string& variable : TRY(fields.texts("env"))) {
        if (variable.find('=') == std::string::npos || variable.starts_with('='))
            return bad_input("variable {} is not NAME=VALUE", quoted(variable));
        edits.env.push_back(std::move(variable));
    }
    for (const json& node : TRY(fields.list("deviceNodes"))) edits.nodes.push_back(TRY(parse_node(node)));
    for (const json& mount : TRY(fields.list("mounts"))) edits.mounts.push_back(TRY(parse_cdi_mount(mount)));
    for (const json& hook : TRY(fields.list("hooks"))) edits.hooks.push_back(TRY(parse_hook(hook)));
    for (const json& group : TRY(fields.list("additionalGids"))) {
        if (!group.is_number_unsigned() || group.get<std::uint64_t>() > 0xffffffffULL)
            return bad_input("\"additionalGids\" has the wrong type");
        edits.groups.push_back(group.get<gid_t>());
    }
    return {};
}

std::string annotation(const json& object, const char* key) {
    const auto found = object.find("annotations");
    if (found == object.end() || !found->is_object()) return {};
    const auto value = found->find(key);
    return value == found->end() || !value->is_string() ? std::string() : value->get<std::string>();
}

}  // namespace

struct CdiDevices::Spec {
    std::string file;
    json root;
};

struct CdiDevices::Device {
    std::shared_ptr<const Spec> spec;
    json object;
    std::string dir;
    bool ambiguous = false;

    [[nodiscard]] std::string annotated(const char* key) const {
        std::string value = annotation(object, key);
        return value.empty() ? annotation(spec->root, key) : value;
    }
};

namespace {

Result<std::string> read_spec(int dir_fd, const std::string& name) {
    const sys::Fd fd(::openat(dir_fd, name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (!fd.valid()) return fail_errno(errno, "open");
    struct stat st{};
    if (::fstat(fd.get(), &st) != 0) return fail_errno(errno, "stat");
    if (!S_ISREG(st.st_mode)) return bad_input("not a file");
    return sys::read_to_end(fd.get(), kMaxSpecBytes);
}

}  // namespace

void CdiDevices::read_dir(const std::string& dir) {
    const sys::Fd fd(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return;
    auto entries = sys::list_dir(fd.get());
    if (!entries) return;
    std::ranges::sort(*entries, {}, &sys::DirEntry::name);
    for (const sys::DirEntry& entry : *entries) {
        const std::string path = dir + "/" + entry.name;
        if (entry.name.ends_with(".yaml") || entry.name.ends_with(".yml")) {
            problems_.push_back(path + ": only JSON is read, not YAML");
            continue;
        }
        if (!entry.name.ends_with(".json")) continue;
        const auto read = [&]() -> Result<> {
            const std::string text = TRY(read_spec(fd.get(), entry.name));
            auto spec = std::make_shared<Spec>();
            spec->file = path;
            spec->root = json::parse(text, nullptr, false);
            if (!spec->root.is_object()) return bad_input("not a JSON object");
            const Fields fields(spec->root);
            const std::string kind = TRY(fields.text("kind"));
            TRY(check_kind(kind));
            if (TRY(fields.text("cdiVersion")).empty()) return bad_input("\"cdiVersion\" is missing");
            for (json& object : TRY(fields.list("devices"))) {
                const std::string name = TRY(Fields(object).text("name"));
                if (!is_word(name, "_-.:")) return bad_input("{} is no name of a device", quoted(name));
                auto device = std::make_shared<Device>();
                device->spec = spec;
                device->object = std::move(object);
                device->dir = dir;
                auto& place = devices_[kind + "=" + name];
                device->ambiguous = place != nullptr && place->dir == dir;
                place = std::move(device);
            }
            return {};
        };
        if (const auto done = read(); !done) problems_.push_back(path + ": " + done.error().to_string());
    }
}

CdiDevices CdiDevices::load(const std::vector<std::string>& dirs) {
    CdiDevices out;
    for (const std::string& dir : dirs) out.read_dir(dir);
    return out;
}

std::vector<std::string> CdiDevices::names() const {
    std::vector<std::string> out;
    for (const auto& [name, device] : devices_) out.push_back(name);
    return out;
}

Result<std::vector<std::string>> CdiDevices::find(std::string_view wanted) const {
    const auto [kind, name] = cut(wanted, '=');
    TRY_CONTEXT(check_kind(kind), "invalid device {}", quoted(wanted));
    if (name && !name->empty() && *name != "*") {
        if (devices_.contains(std::string(wanted))) return std::vector<std::string>{std::string(wanted)};
    }
    std::vector<std::string> out;
    const std::string prefix = std::string(kind) + "=";
    for (const auto& [known, device] : devices_) {
        if (!known.starts_with(prefix)) continue;
        if (!name || name->empty()) return std::vector<std::string>{known};
        if (*name == "*" || device->annotated(kClassAnnotation) == *name) out.push_back(known);
    }
    return out;
}

bool CdiDevices::allows_itself(const std::string& name) const {
    const auto found = devices_.find(name);
    if (found == devices_.end()) return false;
    const std::string value = to_lower(found->second->annotated(kAutoAllowAnnotation));
    return value == "true" || value == "1" || value == "t";
}

Result<DeviceEdits> CdiDevices::edits(const std::vector<std::string>& names) const {
    DeviceEdits out;
    std::set<const Spec*> seen;
    for (const std::string& name : names) {
        const auto found = devices_.find(name);
        if (found == devices_.end()) return fail(Code::not_found, Blame::world, "device {} is gone", name);
        const Device& device = *found->second;
        if (device.ambiguous) return bad_input("device {} is described twice in {}", name, device.dir);
        // What the file says for all its devices comes first, once.
        if (seen.insert(device.spec.get()).second)
            TRY_CONTEXT(add_edits(device.spec->root, out), "device {}: {}", name, device.spec->file);
        TRY_CONTEXT(add_edits(device.object, out), "device {}: {}", name, device.spec->file);
    }
    return out;
}

}  // namespace cooper::run
