// What a build says of its results: how each came to be. Facts are gathered here; `attest` writes them down.

#include "attest/purl.hpp"
#include "codec/sha256.hpp"
#include "dockerfile/frontend_options.hpp"
#include "engine/detail/exporting.hpp"
#include "exporter/attestations.hpp"
#include "sys/fd.hpp"

#include <algorithm>
#include <array>

namespace cooper::engine {

Result<attest::Requests> attestations_of(const std::map<std::string, std::string>& frontend_options) {
    return attest::parse_requests(TRY(dockerfile::attestations_of(frontend_options)));
}

void LocalJob::note_asked(const SolveCall& call, const FrontendResult& result) {
    auto asked = asked_.lock();
    const auto note = [&](const ResultRef& ref) {
        if (ref == nullptr) return;
        // A frontend that asks another one is what was asked first; it answers last.
        if (call.frontend.empty()) {
            asked->try_emplace(ref);
        } else {
            asked->insert_or_assign(ref, Asked{call.frontend, call.options});
        }
    };
    note(result.ref);
    for (const auto& [platform, ref] : result.refs) note(ref);
}

attest::Requests LocalJob::wanted_by(const Exporting& e) const {
    attest::Requests wanted = options_.attestations;
    if (wanted.provenance && wanted.provenance->inline_only && !e.options.attestation_inline) wanted.provenance.reset();
    return wanted;
}

namespace {

std::string after(std::string_view text, std::string_view prefix) { return std::string(text.substr(prefix.size())); }

// What a source is called in provenance; nullopt: it has no name that means anything elsewhere.
std::optional<std::string> uri_of(const llb::SourceOp& source, const oci::Platform& platform) {
    const std::string& id = source.identifier;
    if (id.starts_with("docker-image://")) {
        const auto reference = oci::Reference::parse_normalized(after(id, "docker-image://"));
        if (!reference) return std::nullopt;
        return attest::image_purl(*reference, platform);
    }
    if (id.starts_with("oci-layout://")) {
        const std::string name = after(id, "oci-layout://");
        const auto reference = oci::Reference::parse_normalized(name);
        if (!reference) return name;
        return attest::to_string({.type = "oci",
                                  .space = {},
                                  .name = reference->familiar_repository(),
                                  .version = reference->digest().empty() ? "" : reference->digest().to_string(),
                                  .qualifiers = {{"platform", oci::format_platform(platform)}}});
    }
    if (id.starts_with("git://")) {
        const auto request = source::git_request(id.substr(6), source.attrs);
        if (!request) return std::nullopt;
        std::string uri = request->url.remote_without_credentials();
        if (!request->url.ref.empty()) uri += "#" + request->url.ref;
        if (!request->url.subdir.empty()) uri += (request->url.ref.empty() ? "#:" : ":") + request->url.subdir;
        return uri;
    }
    if (id.starts_with("http://") || id.starts_with("https://")) return id;
    return std::nullopt;
}

// How many layers lie below the one that the vertex made, and the output that they are of. nullopt where that cannot
// be told.
std::optional<llb::Edge> below(const llb::LoadedVertex& vertex, std::int64_t output) {
    if (const auto* exec = std::get_if<llb::ExecOp>(&vertex.op.body)) {
        for (const auto& mount : exec->mounts) {
            if (mount.output == output && mount.input >= 0) return vertex.inputs[static_cast<std::size_t>(mount.input)];
        }
    } else if (const auto* file = std::get_if<llb::FileOp>(&vertex.op.body)) {
        const auto inputs = static_cast<std::int64_t>(vertex.inputs.size());
        for (const auto& action : file->actions) {
            if (action.output != output) continue;
            std::int64_t input = action.input;
            while (input >= inputs) input = file->actions[static_cast<std::size_t>(input - inputs)].input;
            if (input >= 0) return vertex.inputs[static_cast<std::size_t>(input)];
        }
    }
    return std::nullopt;
}

// Of the steps that the image's layers come from, the layers that each ended with.
void add_layers(attest::Facts& facts, const exporter::PackedImage& image) {
    std::vector<oci::Descriptor> layers;
    for (const auto& layer : image.layers) layers.push_back(layer.blob);
    for (std::optional<llb::Edge> edge = facts.graph.target; edge && !layers.empty(); layers.pop_back()) {
        facts.layers[{edge->vertex, edge->output}] = layers;
        edge = below(facts.graph.vertices[edge->vertex], edge->output);
    }
}

}  // namespace

namespace {

// Every *.json of the directory, in the order of their names. There may be none.
Result<std::map<std::string, std::string>> environment_of(const std::string& directory) {
    constexpr std::size_t kMaxFiles = 1000;
    constexpr std::size_t kMaxBytes = std::size_t{1} << 20U;
    std::map<std::string, std::string> environment;
    const auto opened = sys::RootedDir::open_host(directory);
    if (!opened && opened.error().code() == Code::not_found) return environment;
    if (!opened) return opened.error();
    struct stat of{};
    if (::fstat(opened->fd(), &of) != 0) return fail_errno(errno, "stat");
    if ((of.st_mode & S_IWOTH) != 0) {
        return fail(Code::permission_denied, Blame::user, "every user of this machine may write to it")
            .with_hint("chmod o-w, or set provenance-env-dir to \"none\"");
    }
    std::vector<std::string> names;
    for (const auto& entry : TRY(sys::list_dir(opened->fd()))) {
        if (entry.name.ends_with(".json")) names.push_back(entry.name);
    }
    if (names.size() > kMaxFiles) return bad_input("more than {} files", kMaxFiles);
    std::ranges::sort(names);
    for (const auto& name : names) {
        const std::string text = TRY_CONTEXT(opened->read_file(name, kMaxBytes), "{}", name);
        TRY_CONTEXT(attest::add_environment(text, environment), "{}", name);
    }
    return environment;
}

}  // namespace

Result<attest::Facts> LocalJob::build_facts(const ResultRef& ref, const exporter::PackedImage* image, bool timeless) {
    attest::Facts facts;
    facts.builder_platform = oci::format_platform(oci::host_platform());
    if (const std::string& directory = engine_.config_.provenance_env_dir; !directory.empty() && directory != "none")
        facts.environment =
            TRY_CONTEXT(environment_of(directory), "what provenance says of the builder, {}", directory);
    facts.hide = [guard = &workshop_->secrets()](std::string_view text) {
        return guard->without_secrets(std::string(text));
    };
    if (!timeless) {
        facts.invocation = options_.ref;
        facts.started = started_;
        facts.finished = engine_.clock_.now();
    }
    if (ref == nullptr) return facts;
    {
        auto asked = asked_.lock();
        if (const auto found = asked->find(ref); found != asked->end()) {
            facts.frontend = found->second.frontend;
            facts.args = found->second.args;
        }
    }
    facts.definition = ref->definition();
    facts.graph = ref->graph();
    for (const auto& vertex : facts.graph.vertices) {
        if (const auto times = step_clock_.of(vertex.digest); times && !timeless)
            facts.times[vertex.digest] = {times->started, times->completed, times->cached};
        const auto* source = std::get_if<llb::SourceOp>(&vertex.op.body);
        if (source == nullptr) continue;
        const oci::Platform platform =
            oci::normalize(vertex.op.platform ? to_oci(*vertex.op.platform) : oci::host_platform());
        const auto pin = workshop_->pin_of(vertex.digest);
        const auto uri = uri_of(*source, platform);
        if (pin && uri) facts.materials[vertex.digest] = {*uri, pin->algorithm, pin->hex};
    }
    if (image != nullptr) add_layers(facts, *image);
    return facts;
}

Result<std::vector<attest::Attestation>> LocalJob::attest_result(Exporting& e, const std::string& platform,
                                                                 const ResultRef& ref,
                                                                 const exporter::PackedImage* image) {
    const auto stated = TRY(stated_by_frontend(e, platform));
    std::vector<attest::Attestation> out = TRY(read_statements(e, stated));
    const attest::Requests wanted = wanted_by(e);
    // A frontend that lists what is in its result knows better.
    const bool listed = std::ranges::any_of(out, [](const auto& one) { return one.predicate_type == attest::kSpdx; });
    if (wanted.provenance) {
        const attest::Facts facts = TRY(build_facts(ref, image, e.epoch_of(platform).has_value()));
        out.push_back({.predicate_type = std::string(attest::predicate_type_of(*wanted.provenance)),
                       .predicate = TRY(attest::make_provenance(facts, *wanted.provenance)),
                       .filename = wanted.provenance->filename,
                       .inline_only = wanted.provenance->inline_only});
    }
    if (wanted.sbom && !listed) {
        for (auto& one : TRY(sboms_of(e, platform, ref, image, *wanted.sbom))) out.push_back(std::move(one));
    }
    return out;
}

Result<> LocalJob::keep_provenance(const FrontendResult& result, ExportAnswer& answer) {
    const auto add = [&](const std::string& platform, const ResultRef& ref) -> Result<> {
        if (ref == nullptr) return {};
        const attest::Facts facts = TRY(build_facts(ref, nullptr, false));
        answer.provenance[platform] = TRY(attest::make_provenance(facts, attest::ProvenanceRequest{}));
        return {};
    };
    TRY(add("", result.ref));
    for (const auto& [platform, ref] : result.refs) TRY(add(platform, ref));
    return {};
}

Result<exporter::PackedAttestation> LocalJob::attest_image(Exporting& e, const std::string& platform,
                                                           const ResultRef& ref, const exporter::PackedImage& image) {
    std::vector<attest::Subject> subjects;
    for (const auto& name : e.options.names) {
        const auto reference = TRY(oci::Reference::parse_untagged(name));
        subjects.push_back({attest::image_purl(reference, image.manifest.platform), image.manifest.digest});
    }
    if (subjects.empty()) subjects.push_back({"_", image.manifest.digest});
    std::vector<exporter::Statement> statements;
    for (const auto& one : TRY(attest_result(e, platform, ref, &image))) {
        statements.push_back({.text = attest::make_statement(one, subjects),
                              .media_type = std::string(attest::kMediaType),
                              .annotations = {{std::string(attest::kPredicateAnnotation), one.predicate_type}}});
    }
    const auto form = e.options.oci_artifact ? exporter::AttestationForm::artifact : exporter::AttestationForm::image;
    return exporter::pack_attestation(workshop_->store(), image, statements, form, e.options.pack.oci_media_types,
                                      e.progress());
}

namespace {

Result<Digest> digest_of(int fd, const Stop& stop) {
    codec::Sha256 hash;
    std::vector<std::byte> buffer(std::size_t{256} << 10U);
    while (true) {
        TRY(check_stop(stop));
        const std::size_t n = TRY(sys::read_some(fd, buffer));
        if (n == 0) return hash.finish();
        hash.update(std::span(buffer).first(n));
    }
}

// Every regular file, by its path below the root.
Result<std::vector<attest::Subject>> files_of(const snapshot::Tree& tree, const Stop& stop) {
    std::vector<attest::Subject> files;
    std::vector<std::pair<std::string, snapshot::DirectoryRef>> open{{"", TRY(tree.root())}};
    while (!open.empty()) {
        const auto [path, directory] = std::move(open.back());
        open.pop_back();
        for (const auto& entry : TRY(directory->list())) {
            const std::string below = path.empty() ? entry.name : path + "/" + entry.name;
            if (entry.kind == snapshot::Kind::directory) {
                open.emplace_back(below, TRY(directory->open_dir(entry.name)));
            } else if (entry.kind == snapshot::Kind::file) {
                const snapshot::Node node = TRY(directory->stat(entry));
                const sys::Fd file = TRY(directory->open_file(entry.name, node));
                files.push_back({below, TRY_CONTEXT(digest_of(file.get(), stop), "{}", below)});
            }
        }
    }
    std::ranges::sort(files, {}, &attest::Subject::name);
    return files;
}

}  // namespace

Result<LocalJob::AttestedTree> LocalJob::attest_tree(Exporting& e, const std::string& platform, const ResultRef& ref,
                                                     const std::string& suffix) {
    const auto result = TRY(build(ref, e.stop));
    const auto tree = TRY(workshop_->trees().tree(result, e.progress(), e.stop));
    const std::vector<attest::Attestation> attestations = TRY(attest_result(e, platform, ref, nullptr));
    AttestedTree out{.draft = std::nullopt, .tree = tree};
    if (attestations.empty()) return out;
    const std::vector<attest::Subject> subjects = TRY(files_of(*tree, e.stop));
    const store::Chain chain = TRY(workshop_->trees().layers_of(result, "an export", e.stop));
    TRY(workshop_->trees().ensure(chain, e.progress(), e.stop));
    out.draft.emplace(TRY(workshop_->store().begin_layer()));
    const auto builder =
        TRY(snapshot::LayerBuilder::create(TRY(workshop_->trees().layer_dirs(chain)), TRY(out.draft->open())));
    const auto root = TRY(builder->root());
    for (const auto& one : attestations) {
        const std::size_t dot = std::min(one.filename.find('.'), one.filename.size());
        const std::string name =
            e.options.attestation_prefix + one.filename.substr(0, dot) + suffix + one.filename.substr(dot);
        if (TRY(root->find(name))) {
            return bad_input("the result has a file {} already, which an attestation would replace", quoted(name))
                .with_hint("set attestation-prefix=TEXT at the output, or filename= at the provenance");
        }
        TRY(root->put_bytes(name, attest::make_statement(one, subjects),
                            snapshot::Meta{.mode = 0600, .mtime_ns = std::nullopt, .xattrs = {}}));
    }
    TRY(builder->finish());
    out.tree = builder->view();
    return out;
}

}  // namespace cooper::engine
