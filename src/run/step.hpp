// Step: one running cooper-init with its runtime, from spawn to reaped, with its output pumped.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "run/bundle.hpp"
#include "run/cgroup.hpp"
#include "run/executor.hpp"
#include "sys/process.hpp"

#include <string>
#include <vector>

namespace cooper::run {

// How the runtime ended.
struct StepEnd {
    int code = 0;
    std::string runtime_log;  // JSON lines; empty when all went well
};

class Step final : private Streams::Control {
public:
    // shared: in this program's process namespace.
    enum class Processes : std::uint8_t { own, shared };
    Step(const Streams& streams, std::vector<PublishedPort> ports, Freezer& freezer, Processes processes)
        : streams_(streams), ports_(std::move(ports)), freezer_(freezer), processes_(processes) {}

    // Starts init_program with the bundle and pumps until everything has ended. When stopped, kills
    // all and returns cancelled, after the last process is gone.
    [[nodiscard]] Result<StepEnd> run(const std::string& init_program, const Bundle& bundle, const ProcessSpec& spec,
                                      const Stop& stop);

private:
    struct Output {
        sys::Fd fd;
        int stream = 1;
    };
    void signal(int signal_number) override;
    void pause() override { freezer_.freeze(); }
    void resume() override { freezer_.thaw(); }
    int tty_master() override { return terminal_.get(); }
    const std::vector<PublishedPort>& ports() override { return ports_; }

    [[nodiscard]] Result<> start(const std::string& init_program, const Bundle& bundle, const ProcessSpec& spec);
    [[nodiscard]] Result<> pump(const Stop& stop);
    void read_control();
    void take_message(std::string_view message);
    // False when the stream has ended.
    bool read_output(Output& output);
    void announce();

    const Streams& streams_;
    std::vector<PublishedPort> ports_;
    Freezer& freezer_;
    Processes processes_;
    sys::Child child_;
    sys::Fd control_;
    sys::Fd terminal_;
    std::vector<Output> outputs_;
    std::string failure_;
    StepEnd end_;
    bool ended_ = false;
    bool control_open_ = true;  // the descriptor itself stays: others may be sending signals through it
    bool announced_ = false;
    bool tty_ = false;
};

}  // namespace cooper::run
