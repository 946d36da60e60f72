#include "base/text.hpp"
#include "cli/build_flags.hpp"
#include "cli/command.hpp"

#include <CLI/CLI.hpp>

namespace cooper::cli {

namespace {

struct RunFlags {
    engine::RunRequest request;
    std::vector<std::string> words, add_hosts;
    std::string entrypoint, progress;
    bool remove = false, detach = false, has_entrypoint = false, quiet = false;
};

Action setup_run(CLI::App& app) {
    auto flags = std::make_shared<RunFlags>();
    auto& request = flags->request;
    app.add_flag("--rm", flags->remove, "Remove the container afterwards (always so)");
    app.add_flag("-i,--interactive", request.interactive, "Connect standard input");
    app.add_flag("-t,--tty", request.tty, "Give it a terminal");
    app.add_option("-p,--publish", request.publish, "Publish a port: [IP:]HOST:CONTAINER[/udp]")
        ->type_name("PORTS")
        ->allow_extra_args(false);
    app.add_option("-v,--volume", request.volumes, "Mount a directory: HOST:CONTAINER[:ro]")
        ->type_name("MOUNT")
        ->allow_extra_args(false);
    app.add_option("-e,--env", request.env, "Environment: NAME=VALUE, or NAME from the caller's")
        ->type_name("ENV")
        ->allow_extra_args(false);
    app.add_option("-w,--workdir", request.workdir, "Working directory")->type_name("DIR");
    app.add_option("-u,--user", request.user, "User: name or uid[:gid]")->type_name("USER");
    app.add_option("--hostname", request.hostname, "Host name")->type_name("NAME");
    app.add_option("--entrypoint", flags->entrypoint, "Program instead of the image's entrypoint")
        ->type_name("PROGRAM");
    app.add_option("--network", request.network, "default, none or host")
        ->check(CLI::IsMember({"default", "none", "host"}));
    app.add_option("--add-host", flags->add_hosts, "Line of /etc/hosts")->type_name("HOST:IP")->allow_extra_args(false);
    app.add_flag("--read-only", request.read_only, "Root file system cannot be written");
    app.add_flag("--pull", request.pull, "Ask the registry for a newer image");
    // From the image's name on, words are the container's: flags among them are not cooper's.
    app.add_option("IMAGE", flags->words, "Image to run, then its command")->required()->type_name("[COMMAND…]");
    app.positionals_at_end();
    return [flags, &app](Session& session) -> Result<int> {
        engine::RunRequest wanted = flags->request;
        wanted.image = flags->words.front();
        wanted.command.assign(flags->words.begin() + 1, flags->words.end());
        if (app.count("--entrypoint") > 0) wanted.entrypoint = flags->entrypoint;
        for (const auto& one : flags->add_hosts) wanted.add_hosts.push_back(TRY(parse_add_host(one)));
        const auto engine = TRY(session.open_engine());
        // Quiet unless an image has to be pulled first: that is when the display has something to say.
        const auto display = make_display(ProgressMode::quiet);
        return engine->run(wanted, display->sink(), session.stop);
    };
}

}  // namespace

std::vector<Command> run_commands() {
    return {{"run", "Run a container from an image",
             "  cooper run --rm -it debian:bookworm bash\n"
             "  cooper run --rm -p 5000:5000 shop/api\n"
             "  cooper run --rm -v \"$PWD:/src\" -w /src node:18 npm test\n",
             setup_run, false}};
}

}  // namespace cooper::cli
