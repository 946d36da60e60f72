#include "attest/provenance.hpp"

#include "attest/redact.hpp"
#include "attest/statement.hpp"
#include "base/text.hpp"
#include "codec/go_json.hpp"
#include "llb/op_json.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <tuple>

namespace cooper::attest {

namespace {

using codec::GoJson;

constexpr std::string_view kBuildType1 =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
constexpr std::string_view kBuildType02 = "https://mobyproject.org/buildkit@v1";
constexpr std::string_view kLocal = "local://";

// What of the arguments says more of the machine that built than of the build.
bool is_of_host(std::string_view key) {
    static constexpr std::array<std::string_view, 5> kKeys{"cgroup-parent", "image-resolve-mode", "platform",
                                                           "cache-imports", "frontend.caps"};
    return std::ranges::find(kKeys, key) != kKeys.end() || key.starts_with("attest:") ||
           key.starts_with("build-arg:BUILDKIT_ATTEST_") || key.starts_with("local-sessionid:") ||
           key.starts_with("sharedkey:");
}

struct Use {
    std::string id;
    bool optional = false;
    friend auto operator<=>(const Use&, const Use&) = default;
};

class Writer {
public:
    Writer(const Facts& facts, const ProvenanceRequest& request) : facts_(facts), request_(request) {
        for (std::size_t i = 0; i < facts.graph.vertices.size(); ++i) steps_[facts.graph.vertices[i].digest] = i;
        capture();
        read_args();
    }

    std::string v1();
    std::string v02();

private:
    [[nodiscard]] bool max() const { return request_.detail == Detail::max; }
    [[nodiscard]] std::string clean(std::string_view text) const {
        return without_credentials(facts_.hide ? facts_.hide(text) : std::string(text));
    }
    [[nodiscard]] std::vector<std::string> clean(std::vector<std::string> texts) const {
        for (auto& text : texts) text = clean(text);
        return texts;
    }
    [[nodiscard]] std::map<std::string, std::string> clean(std::map<std::string, std::string> map) const {
        for (auto& [key, value] : map) value = clean(value);
        return map;
    }
    void capture();
    void read_args();
    [[nodiscard]] llb::Op clean(llb::Op op) const;

    void put_materials(GoJson& json) const;
    void put_digest(GoJson& json, const Material& material) const;
    void put_config_source(GoJson& json, std::string_view path_key) const;
    void put_request(GoJson& json) const;
    void put_uses(GoJson& json, std::string_view key, const std::set<Use>& uses) const;
    void put_op(GoJson& json, const llb::Op& op) const;
    void put_build_config(GoJson& json) const;
    void put_source(GoJson& json) const;
    void put_layers(GoJson& json) const;
    void put_buildkit_metadata(GoJson& json) const;
    void put_steps(GoJson& json) const;

    const Facts& facts_;
    const ProvenanceRequest& request_;
    std::map<Digest, std::size_t> steps_;
    std::set<Material> materials_;
    std::set<std::string> locals_;
    std::set<Use> secrets_, ssh_;
    bool network_ = false;
    bool complete_ = true;
    // Of the arguments:
    std::map<std::string, std::string> args_, vcs_;
    std::string config_uri_, config_path_;
    const Material* config_material_ = nullptr;
    bool all_args_ = true;
};

void Writer::capture() {
    for (const auto& vertex : facts_.graph.vertices) {
        if (const auto* exec = std::get_if<llb::ExecOp>(&vertex.op.body)) {
            for (const auto& mount : exec->mounts) {
                if (mount.secret) secrets_.insert({mount.secret->id, mount.secret->optional});
                if (mount.ssh) ssh_.insert({mount.ssh->id, mount.ssh->optional});
            }
            for (const auto& variable : exec->secret_env) secrets_.insert({variable.id, variable.optional});
            network_ = network_ || exec->network != llb::NetMode::none;
        } else if (const auto* source = std::get_if<llb::SourceOp>(&vertex.op.body)) {
            if (source->identifier.starts_with(kLocal)) locals_.insert(source->identifier.substr(kLocal.size()));
            for (const char* key : {"git.authtokensecret", "git.authheadersecret", "http.authheadersecret"}) {
                const auto found = source->attrs.find(key);
                if (found != source->attrs.end() && !found->second.empty()) secrets_.insert({found->second, true});
            }
            if (const auto found = source->attrs.find("git.mountsshsock"); found != source->attrs.end())
                ssh_.insert({found->second, true});
            const auto material = facts_.materials.find(vertex.digest);
            if (material != facts_.materials.end()) materials_.insert(material->second);
        }
    }
    complete_ = unnamed_sources(facts_).empty();
}

void Writer::read_args() {
    std::map<std::string, std::string> args = facts_.args;
    const auto take = [&](const std::string& key) {
        const auto found = args.find(key);
        if (found == args.end()) return std::string();
        std::string value = found->second;
        args.erase(found);
        return value;
    };
    const auto key = args.find("contextkey");
    const std::string context = take(key != args.end() && !key->second.empty() ? key->second : "context");
    if (!context.empty()) {
        config_uri_ = clean(context);
        for (const auto& material : materials_) {
            if (clean(material.uri) == config_uri_) config_material_ = &material;
        }
    }
    config_path_ = take("filename");
    if (config_path_.empty() && facts_.frontend == "dockerfile.v0") config_path_ = "Dockerfile";
    for (const auto& [name, value] : args) {
        if (name.starts_with("vcs:")) {
            if (!value.empty()) vcs_[name.substr(4)] = clean(value);
        } else if (is_of_host(name)) {
            continue;
        } else if (!max() && (name.starts_with("build-arg:") || name.starts_with("label:"))) {
            all_args_ = false;
        } else {
            args_[name] = clean(value);
        }
    }
    if (!max()) {
        all_args_ = all_args_ && secrets_.empty() && ssh_.empty();
        secrets_.clear();
        ssh_.clear();
    }
}

// Without what is the client's own, and without secrets.
llb::Op Writer::clean(llb::Op op) const {
    if (auto* source = std::get_if<llb::SourceOp>(&op.body)) {
        source->identifier = clean(source->identifier);
        for (const char* key : {"local.session", "local.unique", "local.sharedkeyhint", "oci.session"})
            source->attrs.erase(key);
        source->attrs = clean(std::move(source->attrs));
    } else if (auto* exec = std::get_if<llb::ExecOp>(&op.body)) {
        exec->meta.args = clean(std::move(exec->meta.args));
        exec->meta.env = clean(std::move(exec->meta.env));
        if (exec->meta.proxy_env) {
            llb::ProxyEnv& proxy = *exec->meta.proxy_env;
            for (std::string* value :
                 {&proxy.http_proxy, &proxy.https_proxy, &proxy.ftp_proxy, &proxy.no_proxy, &proxy.all_proxy})
                *value = clean(*value);
        }
    } else if (auto* file = std::get_if<llb::FileOp>(&op.body)) {
        for (auto& action : file->actions) {
            if (auto* make = std::get_if<llb::MkFileAction>(&action.action)) make->data = clean(make->data);
        }
    } else if (auto* build = std::get_if<llb::BuildOp>(&op.body)) {
        build->definition.clear();
        build->attrs = clean(std::move(build->attrs));
    }
    return op;
}

void Writer::put_digest(GoJson& json, const Material& material) const {
    json.key("digest").begin_object().field(material.algorithm, material.hex).end_object();
}

void Writer::put_materials(GoJson& json) const {
    json.begin_array();
    for (const auto& material : materials_) {
        json.begin_object().field("uri", clean(material.uri));
        put_digest(json, material);
        json.end_object();
    }
    json.end_array();
}

void Writer::put_config_source(GoJson& json, std::string_view path_key) const {
    json.begin_object();
    if (!config_uri_.empty()) json.field("uri", config_uri_);
    if (config_material_ != nullptr) put_digest(json, *config_material_);
    if (!config_path_.empty()) json.field(path_key, config_path_);
    json.end_object();
}

void Writer::put_uses(GoJson& json, std::string_view key, const std::set<Use>& uses) const {
    if (uses.empty()) return;
    json.key(key).begin_array();
    for (const auto& use : uses) {
        json.begin_object().field("id", use.id);
        if (use.optional) json.key("optional").boolean(true);
        json.end_object();
    }
    json.end_array();
}

void Writer::put_request(GoJson& json) const {
    json.begin_object();
    if (!facts_.frontend.empty()) json.field("frontend", facts_.frontend);
    if (!args_.empty()) json.key("args").map(args_);
    put_uses(json, "secrets", secrets_);
    put_uses(json, "ssh", ssh_);
    if (!locals_.empty()) {
        json.key("locals").begin_array();
        for (const auto& name : locals_) json.begin_object().field("name", name).end_object();
        json.end_array();
    }
    json.end_object();
}

void put_action(GoJson& json, const llb::FileAction& action) {
    json.begin_object();
    json.key("input").integer(action.input);
    json.key("secondaryInput").integer(action.secondary_input);
    json.key("output").integer(action.output);
    json.key("Action").begin_object();
    if (const auto* copy = std::get_if<llb::CopyAction>(&action.action)) json.key("copy").raw(to_go_json(*copy));
    if (const auto* file = std::get_if<llb::MkFileAction>(&action.action)) json.key("mkfile").raw(to_go_json(*file));
    if (const auto* dir = std::get_if<llb::MkDirAction>(&action.action)) json.key("mkdir").raw(to_go_json(*dir));
    if (const auto* rm = std::get_if<llb::RmAction>(&action.action)) json.key("rm").raw(to_go_json(*rm));
    if (const auto* link = std::get_if<llb::SymlinkAction>(&action.action)) json.key("symlink").raw(to_go_json(*link));
    json.end_object().end_object();
}

void Writer::put_op(GoJson& json, const llb::Op& given) const {
    const llb::Op op = clean(given);
    json.begin_object();
    json.key("Op").begin_object();
    if (const auto* exec = std::get_if<llb::ExecOp>(&op.body)) {
        json.key("exec").raw(to_go_json(*exec));
    } else if (const auto* source = std::get_if<llb::SourceOp>(&op.body)) {
        json.key("source").begin_object().field("identifier", source->identifier);
        if (!source->attrs.empty()) json.key("attrs").map(source->attrs);
        json.end_object();
    } else if (const auto* file = std::get_if<llb::FileOp>(&op.body)) {
        json.key("file").begin_object().key("actions").begin_array();
        for (const auto& action : file->actions) put_action(json, action);
        json.end_array().end_object();
    } else if (const auto* build = std::get_if<llb::BuildOp>(&op.body)) {
        json.key("build").raw(to_go_json(*build));
    } else if (const auto* merge = std::get_if<llb::MergeOp>(&op.body)) {
        json.key("merge").raw(to_go_json(*merge));
    } else if (const auto* diff = std::get_if<llb::DiffOp>(&op.body)) {
        json.key("diff").raw(to_go_json(*diff));
    } else if (const auto* pass = std::get_if<llb::PassthroughOp>(&op.body)) {
        json.key("passthrough").raw(to_go_json(*pass));
    }
    json.end_object();
    if (op.platform) {
        json.key("platform").begin_object();
        json.field("Architecture", op.platform->architecture).field("OS", op.platform->os);
        if (!op.platform->variant.empty()) json.field("Variant", op.platform->variant);
        json.end_object();
    }
    if (op.constraints) {
        json.key("constraints").begin_object();
        if (!op.constraints->empty()) json.key("filter").strings(*op.constraints);
        json.end_object();
    }
    json.end_object();
}

void Writer::put_build_config(GoJson& json) const {
    const llb::Graph& graph = facts_.graph;
    json.begin_object();
    json.key("llbDefinition").begin_array();
    const auto input = [](const llb::Edge& edge) { return fmt::format("step{}:{}", edge.vertex, edge.output); };
    for (std::size_t i = 0; i < graph.vertices.size(); ++i) {
        const llb::LoadedVertex& vertex = graph.vertices[i];
        json.begin_object().field("id", fmt::format("step{}", i));
        json.key("op");
        put_op(json, vertex.op);
        if (!vertex.inputs.empty()) {
            json.key("inputs").begin_array();
            for (const auto& edge : vertex.inputs) json.string(input(edge));
            json.end_array();
        }
        json.end_object();
    }
    if (graph.target) {
        json.begin_object().field("id", fmt::format("step{}", graph.vertices.size()));
        json.key("op").begin_object().key("Op").begin_object().end_object().end_object();
        json.key("inputs").begin_array().string(input(*graph.target)).end_array();
        json.end_object();
    }
    json.end_array();
    std::map<std::string, std::string> mapping;
    for (const auto& [digest, step] : steps_) mapping[digest.to_string()] = fmt::format("step{}", step);
    json.key("digestMapping").map(mapping);
    json.end_object();
}

void put_position(GoJson& json, std::string_view key, const llb::Position& position) {
    json.key(key).begin_object();
    if (position.line != 0) json.key("line").integer(position.line);
    if (position.character != 0) json.key("character").integer(position.character);
    json.end_object();
}

void Writer::put_source(GoJson& json) const {
    const llb::SourceMap& source = *facts_.definition.source;
    json.key("source").begin_object();
    std::map<std::size_t, const std::vector<llb::Location>*> locations;
    for (const auto& [digest, where] : source.locations) {
        const auto parsed = Digest::parse(digest);
        const auto step = parsed ? steps_.find(*parsed) : steps_.end();
        if (step != steps_.end()) locations[step->second] = &where;
    }
    json.key("locations").begin_object();
    for (const auto& [step, where] : locations) {
        json.key(fmt::format("step{}", step)).begin_object().key("locations").begin_array();
        for (const auto& location : *where) {
            json.begin_object();
            if (location.source_index != 0) json.key("sourceIndex").integer(location.source_index);
            json.key("ranges").begin_array();
            for (const auto& range : location.ranges) {
                json.begin_object();
                put_position(json, "start", range.start);
                put_position(json, "end", range.end);
                json.end_object();
            }
            json.end_array().end_object();
        }
        json.end_array().end_object();
    }
    json.end_object();
    json.key("infos").begin_array();
    for (const auto& info : source.infos) {
        json.begin_object().field("filename", info.filename);
        if (!info.language.empty()) json.field("language", info.language);
        json.key("data").bytes(clean(info.data));
        json.end_object();
    }
    json.end_array().end_object();
}

void Writer::put_layers(GoJson& json) const {
    std::map<std::string, const std::vector<oci::Descriptor>*> outputs;
    for (const auto& [output, layers] : facts_.layers)
        outputs[fmt::format("step{}:{}", output.first, output.second)] = &layers;
    json.key("layers").begin_object();
    for (const auto& [name, layers] : outputs) {
        json.key(name).begin_array().begin_array();
        for (const auto& layer : *layers) {
            json.begin_object().field("mediaType", layer.media_type).field("digest", layer.digest.to_string());
            json.key("size").unsigned_integer(layer.size).end_object();
        }
        json.end_array().end_array();
    }
    json.end_object();
}

void Writer::put_buildkit_metadata(GoJson& json) const {
    json.begin_object();
    if (!vcs_.empty()) json.key("vcs").map(vcs_);
    if (max()) {
        if (facts_.definition.source && !facts_.definition.source->infos.empty()) put_source(json);
        if (!facts_.layers.empty()) put_layers(json);
    }
    json.end_object();
}

void Writer::put_steps(GoJson& json) const {
    json.key("cooper_steps").begin_array();
    for (std::size_t i = 0; i < facts_.graph.vertices.size(); ++i) {
        const llb::LoadedVertex& vertex = facts_.graph.vertices[i];
        const auto found = facts_.times.find(vertex.digest);
        if (found == facts_.times.end()) continue;
        json.begin_object().field("id", fmt::format("step{}", i)).field("name", clean(vertex.name));
        if (found->second.started) json.field("startedOn", format_rfc3339(*found->second.started));
        if (found->second.completed) json.field("finishedOn", format_rfc3339(*found->second.completed));
        if (found->second.cached) json.key("cached").boolean(true);
        json.end_object();
    }
    json.end_array();
}

std::string Writer::v1() {
    GoJson json;
    json.begin_object();
    json.key("buildDefinition").begin_object();
    json.field("buildType", kBuildType1);
    json.key("externalParameters").begin_object();
    json.key("configSource");
    put_config_source(json, "path");
    json.key("request");
    put_request(json);
    json.end_object();
    json.key("internalParameters").begin_object();
    if (max()) {
        json.key("buildConfig");
        put_build_config(json);
    }
    json.field("builderPlatform", facts_.builder_platform);
    for (const auto& [key, value] : facts_.environment) json.key(key).raw(value);
    json.end_object();
    json.key("resolvedDependencies");
    put_materials(json);
    json.end_object();

    json.key("runDetails").begin_object();
    json.key("builder").begin_object().field("id", request_.builder_id).end_object();
    json.key("metadata").begin_object();
    if (facts_.invocation) json.field("invocationID", *facts_.invocation);
    if (facts_.started) json.field("startedOn", format_rfc3339(*facts_.started));
    if (facts_.finished) json.field("finishedOn", format_rfc3339(*facts_.finished));
    json.key("buildkit_metadata");
    put_buildkit_metadata(json);
    json.key("buildkit_hermetic").boolean(complete_ && !network_);
    json.key("buildkit_completeness").begin_object();
    json.key("request").boolean(!facts_.frontend.empty() && all_args_);
    json.key("resolvedDependencies").boolean(complete_);
    json.end_object();
    json.key("buildkit_reproducible").boolean(request_.reproducible);
    if (max() && !facts_.times.empty()) put_steps(json);
    json.end_object().end_object().end_object();
    return std::move(json).take();
}

std::string Writer::v02() {
    GoJson json;
    json.begin_object();
    json.key("builder").begin_object().field("id", request_.builder_id).end_object();
    json.field("buildType", kBuildType02);
    json.key("materials");
    put_materials(json);
    json.key("invocation").begin_object();
    json.key("configSource");
    put_config_source(json, "entryPoint");
    json.key("parameters");
    put_request(json);
    json.key("environment").begin_object().field("platform", facts_.builder_platform);
    for (const auto& [key, value] : facts_.environment) json.key(key).raw(value);
    json.end_object();
    json.end_object();
    if (max()) {
        json.key("buildConfig");
        put_build_config(json);
    }
    json.key("metadata").begin_object();
    if (facts_.invocation) json.field("buildInvocationID", *facts_.invocation);
    if (facts_.started) json.field("buildStartedOn", format_rfc3339(*facts_.started));
    if (facts_.finished) json.field("buildFinishedOn", format_rfc3339(*facts_.finished));
    json.key("completeness").begin_object();
    json.key("parameters").boolean(!facts_.frontend.empty() && all_args_);
    json.key("environment").boolean(true);
    json.key("materials").boolean(complete_);
    json.end_object();
    json.key("reproducible").boolean(request_.reproducible);
    json.key("https://mobyproject.org/buildkit@v1#hermetic").boolean(complete_ && !network_);
    json.key("https://mobyproject.org/buildkit@v1#metadata");
    put_buildkit_metadata(json);
    if (max() && !facts_.times.empty()) put_steps(json);
    json.end_object().end_object();
    return std::move(json).take();
}

}  // namespace

Result<> add_environment(std::string_view text, std::map<std::string, std::string>& environment) {
    const auto too_deep = [](int depth, nlohmann::ordered_json::parse_event_t /*event*/,
                             nlohmann::ordered_json& /*parsed*/) { return depth < 64; };
    const auto json = nlohmann::ordered_json::parse(text, too_deep, false);
    if (!json.is_object()) return bad_input("it is no JSON object");
    for (const auto& [key, value] : json.items()) {
        if (key == "buildConfig" || key == "builderPlatform" || key == "platform")
            return bad_input("{} is what provenance says itself", quoted(key));
        environment[key] = value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    }
    return {};
}

std::vector<std::string> unnamed_sources(const Facts& facts) {
    std::vector<std::string> out;
    for (const auto& vertex : facts.graph.vertices) {
        if (std::holds_alternative<llb::BuildOp>(vertex.op.body)) out.push_back(vertex.name);
        const auto* source = std::get_if<llb::SourceOp>(&vertex.op.body);
        if (source == nullptr || facts.materials.contains(vertex.digest)) continue;
        out.push_back(without_credentials(source->identifier));
    }
    return out;
}

std::string_view predicate_type_of(const ProvenanceRequest& request) {
    return request.version == Slsa::v1 ? kSlsa1 : kSlsa02;
}

Result<std::string> make_provenance(const Facts& facts, const ProvenanceRequest& request) {
    if (request.complete_materials) {
        if (const auto unnamed = unnamed_sources(facts); !unnamed.empty()) {
            return fail(Code::failed_precondition, Blame::user,
                        "provenance cannot name all materials by their content: {}", join(unnamed, ", "))
                .with_hint("build from a git or http URL, or leave out complete-materials");
        }
    }
    Writer writer(facts, request);
    return request.version == Slsa::v1 ? writer.v1() : writer.v02();
}

}  // namespace cooper::attest
