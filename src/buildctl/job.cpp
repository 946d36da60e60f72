#include "buildctl/job.hpp"

#include "base/text.hpp"
#include "cachestore/open.hpp"
#include "codec/base64.hpp"
#include "codec/go_json.hpp"
#include "oci/manifest.hpp"
#include "registry/credentials.hpp"
#include "session/layout_index.hpp"
#include "session/local_session.hpp"
#include "sys/rooted_dir.hpp"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace cooper::buildctl {

namespace {

std::string temporary_place() {
    const char* tmp = std::getenv("TMPDIR");
    return tmp != nullptr && *tmp != '\0' ? tmp : "/tmp";
}

Result<> update_layouts(const Job& job, const client::Attributes& answer) {
    if (!job.layouts.empty()) {
        const auto found = answer.find("containerimage.descriptor");
        if (found == answer.end()) {
            return fail(Code::internal, Blame::world, "the daemon does not say what it exported");
        }
        const std::string json = TRY(codec::base64_decode(found->second));
        for (const auto& [directory, name] : job.layouts) {
            TRY(session::name_in_layout(directory, TRY(oci::parse_descriptor(json)), name));
        }
    }
    const auto found = answer.find("cache.manifest");
    for (const auto& [directory, tag] : job.cache_layouts) {
        if (found != answer.end())  // else nothing was exported
            TRY(session::name_in_layout(directory, TRY(oci::parse_descriptor(found->second)), tag));
        TRY(session::name_beside(directory, tag, answer));
        if (found != answer.end()) TRY(session::sweep_layout(directory));
    }
    return {};
}

// A document in base64, or nothing.
std::optional<std::string> unpacked(const std::string& value) {
    const auto text = codec::base64_decode(value);
    if (!text || !text->starts_with('{') || !nlohmann::json::accept(*text)) return std::nullopt;
    return *text;
}

// For daemons that read them there.
void tell_frontend_of_imports(client::SolveSpec& spec) {
    if (spec.cache_imports.empty() || spec.frontend.empty()) return;
    codec::GoJson json;
    json.begin_array();
    std::vector<std::string> references;
    for (const auto& cache : spec.cache_imports) {
        json.begin_object().field("Type", cache.type).key("Attrs").map(cache.attrs).end_object();
        const auto ref = cache.attrs.find("ref");
        if (cache.type == "registry" && ref != cache.attrs.end()) references.push_back(ref->second);
    }
    json.end_array();
    spec.frontend_attrs["cache-imports"] = std::move(json).take();
    if (!references.empty()) spec.frontend_attrs["cache-from"] = join(references, ",");
}

}  // namespace

Result<> offer_values(Job& job, std::map<std::string, std::string> secret_files,
                      std::map<std::string, std::string> secret_variables,
                      std::map<std::string, std::vector<std::string>> ssh) {
    std::map<std::string, session::LocalSecret> secrets;
    for (auto& [id, file] : secret_files) secrets[id] = {.file = std::move(file), .env = {}};
    for (auto& [id, name] : secret_variables) secrets[id] = {.file = {}, .env = std::move(name)};
    job.offer.credentials = std::make_shared<registry::DockerConfig>("");
    if (secrets.empty() && ssh.empty()) return {};
    job.temporary.push_back(TRY(sys::TempDir::create(temporary_place(), "cooper-session-")));
    job.offer.values = TRY(session::LocalSession::create({.secrets = std::move(secrets),
                                                          .ssh = std::move(ssh),
                                                          .directories = {},
                                                          .layouts = {},
                                                          .scratch_dir = job.temporary.back().path()}));
    return {};
}

Result<> add_exporter(Job& job, client::TypedAttributes exporter, const std::string& dest) {
    const int number = static_cast<int>(job.spec.exporters.size());
    const auto attribute = [&](const char* name) {
        const auto found = exporter.attrs.find(name);
        return found == exporter.attrs.end() ? std::string() : found->second;
    };
    if (exporter.type == "local") {
        if (dest.empty() || dest == "-") return bad_input("output of type local needs dest=DIR");
        job.offer.exports[number] = {.kind = client::ExportTarget::Kind::directory,
                                     .path = dest,
                                     .remove_others = attribute("mode") == "delete"};
    } else if ((exporter.type == "oci" || exporter.type == "docker") && attribute("tar") == "false") {
        if (dest.empty() || dest == "-") return bad_input("output with tar=false needs dest=DIR");
        job.offer.stores["export"] = dest;
        const std::string name = attribute("name");
        const std::size_t colon = name.rfind(':');
        const bool tagged = colon != std::string::npos && name.find('/', colon) == std::string::npos;
        job.layouts[dest] = name.empty() ? "" : tagged ? name.substr(colon + 1) : "latest";
    } else if (exporter.type == "oci" || exporter.type == "docker" || exporter.type == "tar") {
        if (dest.empty() && exporter.type == "docker") {
            return bad_input("output of type docker needs dest=FILE")
                .with_hint("to keep the image at the daemon write: -o type=image,name=NAME");
        }
        const std::string path = dest.empty() ? "-" : dest;
        if (path == "-" && ::isatty(STDOUT_FILENO) == 1) {
            return bad_input("an archive is not written to a terminal").with_hint("add dest=FILE, or redirect");
        }
        job.offer.exports[number] = {.kind = client::ExportTarget::Kind::file, .path = path};
    } else if (!dest.empty()) {
        return bad_input("output of type {} has no dest", exporter.type);
    }
    job.spec.exporters.push_back(std::move(exporter));
    return {};
}

namespace {

void add_what_this_machine_knows(client::TypedAttributes& cache) {
    cachestore::Spec spec{.type = cache.type, .attrs = cache.attrs};
    cachestore::add_client_attributes(spec, cachestore::process_environment);
    cache.attrs = std::move(spec.attrs);
}

}  // namespace

Result<> add_cache_export(Job& job, client::TypedAttributes cache) {
    add_what_this_machine_knows(cache);
    if (cache.type == "local") {
        const std::string dest = cache.attrs["dest"];
        if (dest.empty()) return bad_input("cache export of type local needs dest=DIR");
        const std::string tag = cache.attrs["tag"];
        job.offer.stores["local:" + dest] = dest;
        job.cache_layouts[dest] = tag.empty() ? "latest" : tag;
        if (cache.attrs.contains("mounts"))
            cache.attrs.merge(TRY(session::digests_beside(dest, job.cache_layouts[dest])));
        if (tag.empty()) cache.attrs.erase("tag");
    }
    job.spec.cache_exports.push_back(std::move(cache));
    return {};
}

Result<> add_cache_import(Job& job, client::TypedAttributes cache) {
    add_what_this_machine_knows(cache);
    if (cache.type == "local") {
        const std::string src = cache.attrs["src"];
        if (src.empty()) return bad_input("cache import of type local needs src=DIR");
        if (cache.attrs["digest"].empty()) {
            const std::string tag = cache.attrs["tag"];
            const auto digest = session::digest_in_layout(src, tag.empty() ? "latest" : tag);
            // As with a registry: no cache yet is no error.
            if (!digest && digest.error().code() == Code::not_found) return {};
            cache.attrs["digest"] = TRY(Result<std::string>(digest));
            cache.attrs.merge(TRY(session::digests_beside(src, tag.empty() ? "latest" : tag)));
        }
        if (cache.attrs["tag"].empty()) cache.attrs.erase("tag");
        job.offer.stores["local:" + src] = src;
    }
    job.spec.cache_imports.push_back(std::move(cache));
    return {};
}

Result<> offer_file(Job& job, const std::string& name, const std::string& file, std::string_view content) {
    job.temporary.push_back(TRY(sys::TempDir::create(temporary_place(), "cooper-build-")));
    const sys::TempDir& dir = job.temporary.back();
    const sys::Fd out = TRY(dir.dir().open(file, O_WRONLY | O_CREAT | O_EXCL, sys::Follow::no, 0600));
    TRY(sys::write_all(out.get(), content));
    job.offer.directories[name] = dir.path();
    return {};
}

Result<client::Attributes> run_job(Job& job, const client::ConnectOptions& daemon, ProgressSink& progress,
                                   const Stop& stop) {
    tell_frontend_of_imports(job.spec);
    job.spec.ref = client::random_id();
    const auto connection = TRY(client::Connection::open(daemon, stop));
    const auto session = TRY(client::OfferedSession::start(*connection, job.offer));
    if (job.ask) return client::ask_frontend(*connection, *session, job.spec, progress, stop);
    client::Attributes answer = TRY(client::solve(*connection, *session, job.spec, progress, stop));
    TRY(update_layouts(job, answer));
    return answer;
}

std::map<std::string, std::string> metadata_values(const client::Attributes& answer) {
    std::map<std::string, std::string> values;
    for (const auto& [key, value] : answer) {
        const auto document = unpacked(value);
        if (document) {
            values[key] = *document;
        } else {
            codec::append_go_json_string(values[key], value);
        }
    }
    return values;
}

std::string metadata_text(const client::Attributes& answer) {
    auto json = nlohmann::ordered_json::object();
    for (const auto& [key, value] : metadata_values(answer)) json[key] = nlohmann::ordered_json::parse(value);
    return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

client::TlsFiles tls_of_directory(const std::string& directory) {
    client::TlsFiles tls;
    if (directory.empty()) return tls;
    const auto take = [&](std::string& into, const char* name) {
        const std::string path = directory + "/" + name;
        if (::access(path.c_str(), F_OK) == 0) into = path;
    };
    take(tls.ca, "ca.pem");
    take(tls.certificate, "cert.pem");
    take(tls.key, "key.pem");
    return tls;
}

}  // namespace cooper::buildctl
