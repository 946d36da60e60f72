// What is in a result: found here by looking at its files, or by a scanner that is an image.

#include "attest/sbom.hpp"
#include "engine/detail/exporting.hpp"
#include "llb/state.hpp"

#include <nlohmann/json.hpp>

namespace cooper::engine {

namespace {

constexpr std::size_t kMaxDocument = std::size_t{128} << 20U;
constexpr std::size_t kMaxDocuments = 1000;
constexpr const char* kCore = "/run/src/core/sbom";
constexpr const char* kExtras = "/run/src/extras/";
constexpr const char* kOut = "/run/out/";

// The instruction of each layer, as far as history and layers match.
std::vector<attest::SbomLayer> layers_of(const exporter::PackedImage& image) {
    std::vector<attest::SbomLayer> layers;
    for (const auto& layer : image.layers) layers.push_back({layer.blob.digest, {}});
    const auto config = oci::parse_image_config(image.config_bytes);
    if (!config) return layers;
    std::size_t at = 0;
    for (const auto& entry : config->history) {
        if (entry.empty_layer) continue;
        if (at < layers.size()) layers[at].instruction = entry.created_by;
        ++at;
    }
    if (at != layers.size()) {
        for (auto& layer : layers) layer.instruction.clear();
    }
    return layers;
}

// One statement that a scanner wrote: its predicate is taken, its subject is not.
Result<attest::Attestation> read_statement(const std::string& text, const std::string& name) {
    const auto too_deep = [](int depth, nlohmann::ordered_json::parse_event_t /*event*/,
                             nlohmann::ordered_json& /*parsed*/) { return depth < 200; };
    const auto json = nlohmann::ordered_json::parse(text, too_deep, false);
    const auto type = json.is_object() ? json.find("predicateType") : json.end();
    if (!json.is_object() || type == json.end() || !type->is_string() || !json.contains("predicate"))
        return bad_input("{} of the scanner is no in-toto statement", quoted(name));
    return attest::Attestation{
        .predicate_type = type->get<std::string>(),
        .predicate = json["predicate"].dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace),
        .filename = name,
        .inline_only = false};
}

}  // namespace

Result<std::vector<attest::Attestation>> LocalJob::sboms_of(Exporting& e, const std::string& platform,
                                                            const ResultRef& ref, const exporter::PackedImage* image,
                                                            const attest::SbomRequest& request) {
    if (!request.generator.empty()) return scan_by(e, platform, ref, request);
    const auto result = TRY(build(ref, e.stop));
    const std::string row = platform.empty() ? "finding packages" : "finding packages of " + platform;
    e.progress().status(row, row, 0, 0, false);
    const auto tree = TRY(workshop_->trees().tree(result, e.progress(), e.stop));
    attest::SbomFacts facts;
    facts.name = "image";
    if (!e.options.names.empty()) {
        const auto name = oci::Reference::parse_untagged(e.options.names.front());
        if (name) facts.name = name->familiar();
    }
    facts.epoch_seconds = e.epoch_of(platform);
    std::vector<snapshot::LayerDir> dirs;
    if (image != nullptr) {
        TRY(workshop_->trees().ensure(image->chain, e.progress(), e.stop));
        dirs = TRY(workshop_->trees().layer_dirs(image->chain));
        facts.layers = layers_of(*image);
    }
    facts.inventory = TRY(attest::find_packages(*tree, dirs, e.stop));
    for (const auto& limit : facts.inventory.limits)
        e.progress().warn(WarningEvent{.short_text = "the SBOM is incomplete: " + limit});
    e.progress().status(row, row, 0, 0, true);
    std::vector<attest::Attestation> out;
    out.push_back({.predicate_type = std::string(attest::predicate_type_of(request.format)),
                   .predicate = attest::make_sbom(facts, request.format),
                   .filename = std::string(attest::file_name_of(request.format)),
                   .inline_only = false});
    for (const auto& scan : scans_of(ref)) {
        attest::SbomFacts other;
        other.name = scan.name;
        other.epoch_seconds = facts.epoch_seconds;
        const auto files = TRY(workshop_->trees().tree(TRY(build(scan.ref, e.stop)), e.progress(), e.stop));
        other.inventory = TRY_CONTEXT(attest::find_packages(*files, {}, e.stop), "packages of {}", scan.name);
        std::string filename(attest::file_name_of(request.format));
        filename.insert(filename.find('.'), "-" + scan.name);
        out.push_back({.predicate_type = std::string(attest::predicate_type_of(request.format)),
                       .predicate = attest::make_sbom(other, request.format),
                       .filename = std::move(filename),
                       .inline_only = false});
    }
    return out;
}

std::vector<LocalJob::Scan> LocalJob::scans_of(const ResultRef& ref) {
    auto scans = scans_.lock();
    const auto found = scans->find(ref);
    return found == scans->end() ? std::vector<Scan>() : found->second;
}

Result<std::vector<attest::Attestation>> LocalJob::scan_by(Exporting& e, const std::string& platform,
                                                           const ResultRef& ref, const attest::SbomRequest& request) {
    const auto scan = [&]() -> Result<std::vector<attest::Attestation>> {
        const llb::Platform host = to_llb(oci::host_platform());
        const auto resolved =
            TRY(bridge().resolve_image_config(request.generator, host, frontend::ResolveMode::standard,
                                              "[internal] load metadata for " + request.generator, e.stop));
        const oci::ImageConfig config = TRY(oci::parse_image_config(resolved.config_json));
        const oci::Reference name = TRY(oci::Reference::parse_normalized(resolved.reference));
        const std::string pinned =
            resolved.digest.empty() ? name.canonical() : name.with_digest(resolved.digest).canonical();
        llb::ImageOptions options;
        options.constraints.platform = host;
        const llb::Definition scanner = TRY(llb::marshal_definition(llb::image(pinned, std::move(options)), host));

        ContainerSpec spec;
        spec.mounts.push_back({llb::Mount{.dest = "/"}, TRY(load(scanner, {}, e.stop))});
        spec.mounts.push_back({llb::Mount{.dest = kCore, .readonly = true}, ref});
        spec.mounts.push_back({llb::Mount{.dest = kOut}, nullptr});
        spec.mounts.push_back({llb::Mount{.dest = "/tmp", .type = llb::MountType::tmpfs}, nullptr});
        const std::size_t out_mount = 2;
        for (const auto& extra : scans_of(ref))
            spec.mounts.push_back({llb::Mount{.dest = kExtras + ("sbom-" + extra.name), .readonly = true}, extra.ref});
        const auto container = TRY(start_container(std::move(spec), e.stop));
        ContainerProcess process;
        process.meta.args = config.config.entrypoint;
        for (const auto& word : config.config.cmd) process.meta.args.push_back(word);
        if (process.meta.args.empty()) return bad_input("the scanner has neither an entrypoint nor a command");
        process.meta.env = config.config.env;
        process.meta.env.push_back(std::string("BUILDKIT_SCAN_DESTINATION=") + kOut);
        process.meta.env.push_back(std::string("BUILDKIT_SCAN_SOURCE=") + kCore);
        process.meta.env.push_back(std::string("BUILDKIT_SCAN_SOURCE_EXTRAS=") + kExtras);
        for (const auto& [key, value] : request.parameters)
            process.meta.env.push_back("BUILDKIT_SCAN_" + key + "=" + value);
        process.meta.cwd = config.config.working_dir.empty() ? "/" : config.config.working_dir;
        process.meta.user = config.config.user;
        process.streams.output = [&](int stream, std::string_view text) {
            e.progress().log(stream, std::string(text));
        };
        const ExitStatus status = TRY(container->run(process, e.stop));
        if (status.code != 0)
            return fail(Code::failed_precondition, Blame::user, "the scanner ended with exit code {}", status.code);
        const auto written = TRY(container->tree(out_mount, e.stop));
        const auto root = TRY(written->root());
        std::vector<attest::Attestation> out;
        for (const auto& entry : TRY(root->list())) {
            if (entry.kind != snapshot::Kind::file) continue;
            if (out.size() == kMaxDocuments) return bad_input("the scanner wrote more than {} files", kMaxDocuments);
            const auto text = TRY(written->read_file("/" + entry.name, kMaxDocument));
            if (text) out.push_back(TRY(read_statement(*text, entry.name)));
        }
        if (out.empty()) return bad_input("the scanner wrote nothing to {}", kOut);
        return out;
    };
    const std::string what = platform.empty() ? "" : " of " + platform;
    return TRY_CONTEXT(scan(), "SBOM{} by {}", what, request.generator);
}

}  // namespace cooper::engine
