#include "base/text.hpp"
#include "buildctl/command.hpp"
#include "buildctl/job.hpp"
#include "cli/build_flags.hpp"
#include "cli/command.hpp"
#include "cli/progress_raw_json.hpp"
#include "codec/sha256.hpp"
#include "llb/load.hpp"
#include "llb/marshal.hpp"
#include "sys/fd.hpp"

#include <CLI/CLI.hpp>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace cooper::buildctl {

namespace {

constexpr std::size_t kMaxDefinition = 16UL << 20U;  // a message holds no more

struct Flags {
    std::vector<std::string> outputs, locals, layouts, options, export_caches, import_caches, secrets, allow, ssh;
    std::vector<std::string> registry_tls;
    std::string frontend, progress = "auto", trace, metadata_file, policy_file, ref_file;
    bool no_cache = false;
};

Result<std::string> read_file(const std::string& path, std::size_t limit) {
    const sys::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return fail_errno(errno, path);
    return TRY_CONTEXT(sys::read_to_end(file.get(), limit), "{}", path);
}

Result<> write_file(const std::string& path, std::string_view text) {
    const std::string temporary = fmt::format("{}.{}.tmp", path, ::getpid());
    sys::Fd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!file.valid()) return fail_errno(errno, path);
    TRY_CONTEXT(sys::write_all(file.get(), text), "{}", path);
    TRY(std::move(file).close());
    if (::rename(temporary.c_str(), path.c_str()) != 0) return fail_errno(errno, path);
    return {};
}

Result<std::pair<std::string, std::string>> parse_pair(const char* flag, const std::string& text) {
    const auto [key, value] = cut(text, '=');
    if (!value || key.empty()) return bad_input("{} {}: want KEY=VALUE", flag, quoted(text));
    return std::pair(std::string(key), std::string(*value));
}

// type=T,key=value,…; a lone word is what `alone` says it is.
Result<client::TypedAttributes> parse_typed(const char* flag, const std::string& text, const char* alone) {
    const auto fields = TRY(cli::parse_csv(text));
    client::TypedAttributes typed;
    if (fields.size() == 1 && !fields[0].contains('=')) {
        if (alone == nullptr) return bad_input("{} {}: want type=TYPE,…", flag, quoted(text));
        if (std::string_view(alone) == "ref") return client::TypedAttributes{"registry", {{"ref", fields[0]}}};
        return client::TypedAttributes{fields[0] == "-" ? "tar" : "local", {{"dest", fields[0]}}};
    }
    for (const auto& field : fields) {
        auto [key, value] = TRY(parse_pair(flag, field));
        if (key == "type") {
            typed.type = value;
        } else {
            typed.attrs[key] = value;
        }
    }
    if (typed.type.empty()) return bad_input("{} {} needs a type", flag, quoted(text));
    return typed;
}

Result<> add_output(Job& job, const std::string& text) {
    client::TypedAttributes exporter = TRY(parse_typed("--output", text, "dest"));
    std::string dest;
    if (const auto found = exporter.attrs.find("dest"); found != exporter.attrs.end()) {
        dest = found->second;
        exporter.attrs.erase(found);
    }
    return add_exporter(job, std::move(exporter), dest);
}

Result<> add_cache_exports(Job& job, const Flags& flags) {
    for (const auto& text : flags.export_caches) {
        client::TypedAttributes cache = TRY(parse_typed("--export-cache", text, "ref"));
        cache.attrs.try_emplace("mode", "min");
        TRY(add_cache_export(job, std::move(cache)));
    }
    for (const auto& text : flags.import_caches) {
        TRY(add_cache_import(job, TRY(parse_typed("--import-cache", text, "ref"))));
    }
    return {};
}

Result<> add_values(Job& job, const Flags& flags) {
    std::map<std::string, std::string> files;
    std::map<std::string, std::string> variables;
    for (const auto& text : flags.secrets) {
        const auto secret = TRY(cli::parse_secret(text));
        (secret.env.empty() ? files : variables)[secret.id] = secret.env.empty() ? secret.file : secret.env;
    }
    std::map<std::string, std::vector<std::string>> ssh;
    for (const auto& text : flags.ssh) {
        auto agent = TRY(cli::parse_ssh(text));
        ssh[agent.id] = std::move(agent.paths);
    }
    return offer_values(job, std::move(files), std::move(variables), std::move(ssh));
}

// Standard input as a definition; with --no-cache none of its operations may be taken from the cache.
Result<std::string> read_definition(bool no_cache) {
    if (::isatty(STDIN_FILENO) == 1) {
        return bad_input("no frontend and no definition").with_hint("name a --frontend, or pipe LLB into it");
    }
    std::string bytes = TRY_CONTEXT(sys::read_to_end(STDIN_FILENO, kMaxDefinition), "standard input");
    llb::Definition definition = TRY_CONTEXT(llb::parse_definition(bytes), "definition on standard input");
    if (definition.ops.empty()) {
        return bad_input("the definition on standard input is empty").with_hint("to use a frontend name a --frontend");
    }
    if (!no_cache) return bytes;
    for (const std::string& op : definition.ops) {
        definition.metadata[codec::sha256_of(op).to_string()].ignore_cache = true;
    }
    return llb::marshal(definition);
}

Result<Job> to_job(const Flags& flags) {
    Job job;
    job.spec.frontend = flags.frontend;
    for (const auto& text : flags.options) {
        auto [key, value] = TRY(parse_pair("--opt", text));
        job.spec.frontend_attrs[key] = value;
    }
    for (const auto& text : flags.locals) {
        auto [name, path] = TRY(parse_pair("--local", text));
        if (::access(path.c_str(), R_OK | X_OK) != 0) return fail_errno(errno, "--local " + text);
        job.offer.directories[name] = path;
    }
    for (const auto& text : flags.layouts) {
        auto [name, path] = TRY(parse_pair("--oci-layout", text));
        job.offer.stores["oci:" + name] = path;
    }
    for (const auto& text : flags.outputs) TRY(add_output(job, text));
    TRY(add_cache_exports(job, flags));
    TRY(add_values(job, flags));
    for (const auto& one : flags.allow) {
        for (const auto& word : split(one, ',')) job.spec.entitlements.push_back(word);
    }
    if (!flags.policy_file.empty()) job.spec.source_policy_json = TRY(read_file(flags.policy_file, kMaxDefinition));
    if (!flags.registry_tls.empty()) {
        return bad_input("--registry-auth-tlscontext has no meaning here: the daemon fetches tokens itself")
            .with_hint("give the daemon the certificates of that registry");
    }
    if (flags.frontend.empty()) {
        job.spec.definition = TRY(read_definition(flags.no_cache));
    } else if (flags.no_cache) {
        job.spec.frontend_attrs["no-cache"] = "";
    }
    return job;
}

// Events to the display and, as JSON, to a file.
class Tee final : public ProgressSink {
public:
    Tee(ProgressSink& display, sys::Fd file) : display_(display), file_(std::move(file)), json_(file_.get()) {}
    void emit(ProgressEvent event) override {
        json_.emit(event);
        display_.emit(std::move(event));
    }

private:
    ProgressSink& display_;
    sys::Fd file_;
    cli::RawJsonProgress json_;
};

Result<client::Attributes> run(Job& job, const Flags& flags, const Context& context) {
    const auto display = cli::make_display(TRY(cli::parse_progress_mode(flags.progress)));
    std::unique_ptr<Tee> tee;
    if (!flags.trace.empty()) {
        sys::Fd file(::open(flags.trace.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
        if (!file.valid()) return fail_errno(errno, flags.trace);
        tee = std::make_unique<Tee>(display->sink(), std::move(file));
    }
    ProgressSink& sink = tee != nullptr ? static_cast<ProgressSink&>(*tee) : display->sink();
    auto answer = run_job(job, context.daemon, sink, context.stop);
    display->finish();
    return answer;
}

Result<int> build(const Flags& flags, const Context& context) {
    Job job = TRY(to_job(flags));
    if (context.wait) TRY(context.connect());
    const auto answer = run(job, flags, context);
    if (!flags.ref_file.empty() && !job.spec.ref.empty()) TRY(write_file(flags.ref_file, job.spec.ref));
    const client::Attributes attributes = TRY(Result<client::Attributes>(answer));
    if (!flags.metadata_file.empty()) TRY(write_file(flags.metadata_file, metadata_text(attributes)));
    return 0;
}

Action setup_build(CLI::App& app) {
    auto flags = std::make_shared<Flags>();
    const auto list = [&](const char* names, std::vector<std::string>& into, const char* text, const char* type) {
        app.add_option(names, into, text)->type_name(type)->allow_extra_args(false);
    };
    app.add_option("--frontend", flags->frontend,
                   "Frontend: dockerfile.v0, gateway.v0; without it LLB on standard input")
        ->type_name("NAME");
    list("--opt", flags->options, "Option of the frontend: target=foo, build-arg:foo=bar", "KEY=VALUE");
    list("--local", flags->locals, "Folder that the build may read: context=.", "NAME=DIR");
    list("--oci-layout", flags->layouts, "OCI layout that the build may read", "NAME=DIR");
    list("-o,--output", flags->outputs, "Where the result goes: type=image,name=…,push=true; type=local,dest=…",
         "SPEC");
    list("--export-cache", flags->export_caches, "Export the cache: type=registry,ref=…; type=local,dest=…", "SPEC");
    list("--import-cache", flags->import_caches, "Import a cache: type=registry,ref=…; type=local,src=…", "SPEC");
    list("--secret", flags->secrets, "Secret: id=NAME,src=FILE or id=NAME,env=VARIABLE", "SPEC");
    list("--ssh", flags->ssh, "Agent or keys: default or ID=SOCKET|KEY[,KEY]", "SPEC");
    list("--allow", flags->allow, "Grant network.host or security.insecure", "ENTITLEMENT");
    list("--registry-auth-tlscontext", flags->registry_tls, "", "SPEC");
    app.get_option("--registry-auth-tlscontext")->group("");
    app.add_flag("--no-cache", flags->no_cache, "Run every step again");
    app.add_option("--progress", flags->progress, "auto, plain, tty, quiet or rawjson [auto]")->type_name("MODE");
    app.add_option("--trace", flags->trace, "Append the progress as JSON to this file")->type_name("FILE");
    app.add_option("--metadata-file", flags->metadata_file, "Write what the exporters answered as JSON")
        ->type_name("FILE");
    app.add_option("--source-policy-file", flags->policy_file, "Policy for sources, as JSON")->type_name("FILE");
    app.add_option("--ref-file", flags->ref_file, "Write the id of the build to this file")->type_name("FILE");
    return [flags](const Context& context) { return build(*flags, context); };
}

}  // namespace

Command build_command() { return {"build", "Build: with a frontend, or LLB from standard input", setup_build}; }

}  // namespace cooper::buildctl
