#include "base/text.hpp"
#include "cli/attestation_text.hpp"
#include "cli/command.hpp"
#include "inside/shown.hpp"
#include "oci/reference.hpp"
#include "sys/fd.hpp"
#include "sys/output_file.hpp"

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace cooper::cli {

namespace {

struct Names {
    std::vector<std::string> names;
    std::string first, second, file, progress, platform, format, address, name_space;
    bool force = false, quiet = false, all = false, full = false, attestations = false;
    bool docker = false, podman = false, containerd = false;
};

// REPOSITORY and TAG of a stored name.
std::pair<std::string, std::string> familiar(const std::string& name) {
    if (name.empty()) return {"<none>", "<none>"};
    const auto reference = oci::Reference::parse_normalized(name);
    if (!reference) return {name, "<none>"};
    const std::string text = reference->familiar();
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos || text.find('/', colon) != std::string::npos) return {text, "<none>"};
    return {text.substr(0, colon), text.substr(colon + 1)};
}

Action setup_images(CLI::App& app) {
    auto flags = std::make_shared<Names>();
    app.add_flag("-q,--quiet", flags->quiet, "Print ids only");
    app.add_flag("--no-trunc", flags->full, "Print whole ids");
    app.add_flag("-a,--all", flags->all, "")->group("");
    app.add_option("NAME", flags->first, "Only images of this name");
    return [flags](Session& session) -> Result<int> {
        const auto engine = TRY(session.open_engine());
        std::vector<std::vector<std::string>> rows = {{"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"}};
        for (const auto& image : TRY(engine->list_images())) {
            const auto [repository, tag] = familiar(image.name);
            if (!flags->first.empty() && repository != flags->first && repository + ":" + tag != flags->first) continue;
            const std::string id = flags->full ? image.id.to_string() : image.id.short_hex();
            if (flags->quiet) {
                fmt::print("{}\n", id);
            } else {
                rows.push_back({repository, tag, id, ago(image.created), human_size(image.size_bytes)});
            }
        }
        if (!flags->quiet) print_table(rows);
        return 0;
    };
}

Action setup_rmi(CLI::App& app) {
    auto flags = std::make_shared<Names>();
    app.add_option("IMAGE", flags->names, "Names or ids")->required();
    app.add_flag("-f,--force", flags->force, "Remove an id together with all its names");
    return [flags](Session& session) -> Result<int> {
        const auto engine = TRY(session.open_engine());
        int status = 0;
        for (const auto& name : flags->names) {
            const auto removed =
                engine->remove_image(name, flags->force ? engine::Engine::Force::yes : engine::Engine::Force::no);
            if (!removed) {
                print_error(removed.error());
                status = 1;
                continue;
            }
            for (const auto& line : *removed) fmt::print("{}\n", line);
        }
        return status;
    };
}

Action setup_tag(CLI::App& app) {
    auto flags = std::make_shared<Names>();
    app.add_option("SOURCE", flags->first, "Name or id of an image")->required();
    app.add_option("TARGET", flags->second, "New name")->required();
    return [flags](Session& session) -> Result<int> {
        const auto engine = TRY(session.open_engine());
        TRY(engine->tag_image(flags->first, flags->second));
        return 0;
    };
}

void add_progress(CLI::App& app, Names& flags) {
    app.add_option("--progress", flags.progress, "auto, tty, plain, quiet or rawjson")->type_name("MODE");
    app.add_flag("-q,--quiet", flags.quiet, "No progress");
}

Result<ProgressMode> mode_of(const Names& flags) {
    if (flags.quiet) return ProgressMode::quiet;
    return parse_progress_mode(flags.progress);
}

Action setup_pull(CLI::App& app) {
    auto flags = std::make_shared<Names>();
    app.add_option("NAME", flags->first, "Image to pull")->required();
    app.add_option("--platform", flags->platform, "Platform [this machine's]")->type_name("OS/ARCH");
    add_progress(app, *flags);
    return [flags](Session& session) -> Result<int> {
        std::optional<oci::Platform> platform;
        if (!flags->platform.empty()) platform = TRY(oci::parse_platform(flags->platform));
        const auto engine = TRY(session.open_engine());
        const auto display = make_display(TRY(mode_of(*flags)));
        const auto pulled = engine->pull_image(flags->first, platform, display->sink(), session.stop);
        display->finish();
        if (!pulled) return pulled.error();
        fmt::print("{}\n", pulled->digest.to_string());
        return 0;
    };
}

Action setup_push(CLI::App& app) {
    auto flags = std::make_shared<Names>();
    app.add_option("NAME", flags->first, "Image to push, with its registry")->required();
    add_progress(app, *flags);
    return [flags](Session& session) -> Result<int> {
        const auto engine = TRY(session.open_engine());
        const auto display = make_display(TRY(mode_of(*flags)));
        const auto pushed = engine->push_image(flags->first, display->sink(), session.stop);
        display->finish();
        if (!pushed) return pushed.error();
        fmt::print("{}\n", pushed->digest.to_string());
        return 0;
    };
}

}  // namespace

std::string hand_over_line(const engine::Engine::HandOverRow& row) {
    return fmt::format("{}: {} of {} layers were there, {} bytes sent\n", row.name, row.layers - row.layers_sent,
                       row.layers, row.bytes_sent);
}

namespace {

// nullopt: as a tar.
Result<std::optional<engine::Engine::HandOverRequest>> hand_over_request(const Names& flags, const Session& session) {
    engine::Engine::HandOverRequest request;
    request.names = flags.names;
    request.address = flags.address;
    request.name_space = flags.name_space;
    if (session.remote != nullptr) request.dial = session.remote->dialer();
    int given = 0;
    for (const auto& [flag, to] :
         {std::pair(flags.docker, "docker"), {flags.podman, "podman"}, {flags.containerd, "containerd"}}) {
        if (!flag) continue;
        request.to = to;
        given++;
    }
    if (given > 1) return bad_input("--docker, --podman and --containerd exclude each other");
    if (given == 1 && !flags.file.empty()) return bad_input("--{} and --output exclude each other", request.to);
    if (given == 0 && !(flags.address + flags.name_space).empty())
        return bad_input("--address and --namespace are for --docker, --podman and --containerd");
    if (given == 0) return std::nullopt;
    return request;
}

Action setup_save(CLI::App& app) {
    auto flags = std::make_shared<Names>();
    app.add_option("IMAGE", flags->names, "Images to write")->required();
    app.add_option("-o,--output", flags->file, "File [standard output]")->type_name("FILE");
    app.add_flag("--docker", flags->docker, "Into Docker's daemon instead, which gets only what it lacks");
    app.add_flag("--podman", flags->podman, "Into Podman instead, in the same way");
    app.add_flag("--containerd", flags->containerd, "Into containerd instead, in the same way");
    app.add_option("--address", flags->address,
                   "Socket of that engine [$DOCKER_HOST, $CONTAINER_HOST, $CONTAINERD_ADDRESS, or the usual one]")
        ->type_name("SOCKET");
    app.add_option("--namespace", flags->name_space, "Of containerd [$CONTAINERD_NAMESPACE, default]")
        ->type_name("NAME");
    return [flags](Session& session) -> Result<int> {
        if (const auto request = TRY(hand_over_request(*flags, session))) {
            const auto engine = TRY(session.open_engine());
            for (const auto& row : TRY(engine->hand_over_images(*request, session.stop)))
                fmt::print("{}", hand_over_line(row));
            return 0;
        }
        if (flags->file.empty() && ::isatty(STDOUT_FILENO) == 1) {
            return bad_input("a tar is not for a terminal").with_hint("use -o FILE or redirect standard output");
        }
        const auto engine = TRY(session.open_engine());
        if (flags->file.empty()) {
            TRY(engine->save_images(flags->names, STDOUT_FILENO, session.stop));
            return 0;
        }
        auto file = TRY(sys::OutputFile::create(flags->file));
        TRY(engine->save_images(flags->names, file.fd(), session.stop));
        TRY(std::move(file).commit());
        return 0;
    };
}

Action setup_load(CLI::App& app) {
    auto flags = std::make_shared<Names>();
    app.add_option("-i,--input", flags->file, "File [standard input]")->type_name("FILE");
    app.add_flag("-q,--quiet", flags->quiet, "Print nothing");
    return [flags](Session& session) -> Result<int> {
        sys::Fd file;
        if (!flags->file.empty()) {
            file = sys::Fd(::open(flags->file.c_str(), O_RDONLY | O_CLOEXEC));
            if (!file.valid()) return fail_errno(errno, flags->file);
        } else if (::isatty(STDIN_FILENO) == 1) {
            return bad_input("nothing to load on a terminal").with_hint("use -i FILE or redirect standard input");
        }
        const auto engine = TRY(session.open_engine());
        for (const auto& name : TRY(engine->load_images(file.valid() ? file.get() : STDIN_FILENO, session.stop))) {
            if (!flags->quiet) fmt::print("Loaded image: {}\n", name);
        }
        return 0;
    };
}

Result<int> show_attestations(engine::Engine& engine, const Names& flags, const Session& session) {
    std::vector<engine::Attested> all;
    for (const auto& name : flags.names) {
        for (auto& one : TRY(engine.image_attestations(name, session.stop))) all.push_back(std::move(one));
    }
    if (all.empty()) {
        return fail(Code::not_found, Blame::user, "nothing is attested of {}", join(flags.names, ", "))
            .with_hint("build it with --provenance=true or --sbom=true");
    }
    fmt::print("{}", flags.format == "json" ? attestations_as_json(all) : attestations_as_text(all));
    return 0;
}

// What each image has for which platform, and how much of it.
Result<int> show_parts(engine::Engine& engine, const Names& flags, const Session& session) {
    const auto size = [](const std::optional<std::uint64_t>& bytes) { return bytes ? human_size(*bytes) : "-"; };
    for (const auto& name : flags.names) {
        const engine::ImageParts image = TRY(engine.image_parts(name, session.stop));
        if (&name != &flags.names.front()) fmt::print("\n");
        fmt::print("{}\n{}\n", image.name, image.target.digest.to_string());
        if (image.attestations > 0) {
            fmt::print("attested: {} of {}; cooper inspect --attestations shows it\n", image.attestations,
                       inside::counted(image.parts.size(), "image", "images"));
        }
        std::vector<std::vector<std::string>> rows = {{"PLATFORM", "LAYERS", "PACKED", "UNPACKED", "MANIFEST"}};
        for (const auto& part : image.parts) {
            rows.push_back({part.platform, std::to_string(part.layers), size(part.packed_bytes),
                            size(part.unpacked_bytes), part.manifest.to_string()});
        }
        print_table(rows);
    }
    return 0;
}

Action setup_inspect(CLI::App& app) {
    auto flags = std::make_shared<Names>();
    app.add_option("IMAGE", flags->names, "Names or ids; with --format=text as of cooper layers")->required();
    app.add_flag("--attestations", flags->attestations,
                 "Show what is said of the image, here or in its registry: provenance, SBOMs");
    app.add_option("--format", flags->format, "text: platforms and sizes; json [json, of --attestations text]")
        ->type_name("FORMAT")
        ->check(CLI::IsMember({"text", "json"}));
    return [flags](Session& session) -> Result<int> {
        const auto engine = TRY(session.open_engine());
        if (flags->attestations) return show_attestations(*engine, *flags, session);
        if (flags->format == "text") return show_parts(*engine, *flags, session);
        std::string text = "[";
        for (const auto& name : flags->names) {
            text += text.size() > 1 ? ",\n" : "\n";
            text += TRY(engine->inspect_image(name));
        }
        fmt::print("{}\n]\n", text);
        return 0;
    };
}

Action setup_history(CLI::App& app) {
    auto flags = std::make_shared<Names>();
    app.add_option("IMAGE", flags->first, "Name or id")->required();
    app.add_flag("--no-trunc", flags->full, "Print whole commands");
    return [flags](Session& session) -> Result<int> {
        const auto engine = TRY(session.open_engine());
        std::vector<std::vector<std::string>> rows = {{"CREATED", "CREATED BY", "SIZE", "COMMENT"}};
        for (const auto& row : TRY(engine->image_history(flags->first))) {
            std::string by = row.created_by;
            if (!flags->full && by.size() > 60) by = by.substr(0, 57) + "...";
            for (char& c : by) {
                if (static_cast<unsigned char>(c) < 0x20) c = ' ';
            }
            rows.push_back({row.created, by, human_size(row.size_bytes), row.comment});
        }
        print_table(rows);
        return 0;
    };
}

}  // namespace

std::vector<Command> image_commands() {
    return {
        {"images", "List images", "  cooper images\n  cooper images -q\n", setup_images, false},
        {"rmi", "Remove images", "  cooper rmi shop/api:old\n  cooper rmi -f 3f2a1b\n", setup_rmi, false},
        {"tag", "Give an image one more name", "  cooper tag shop/api registry.example.com/shop/api:1.2\n", setup_tag,
         false},
        {"pull", "Fetch an image from its registry", "  cooper pull debian:bookworm\n", setup_pull, false},
        {"push", "Send an image to its registry", "  cooper push registry.example.com/shop/api:1.2\n", setup_push,
         false},
        {"save", "Write images to a tar that docker, podman and skopeo read",
         "  cooper save -o api.tar shop/api\n  cooper save shop/api | docker load\n  cooper save --docker shop/api\n"
         "  cooper save --containerd --namespace k8s.io shop/api\n",
         setup_save, false},
        {"load", "Read images from such a tar", "  cooper load -i api.tar\n", setup_load, false},
        {"inspect", "Show an image's configuration as JSON, or what is said of it",
         "  cooper inspect shop/api\n"
         "  cooper inspect --format=text registry.example.com/shop/api:1\n"
         "  cooper inspect --attestations registry.example.com/shop/api:1\n",
         setup_inspect, false},
        {"history", "Show the steps that made an image", "  cooper history shop/api\n", setup_history, false},
    };
}

}  // namespace cooper::cli
