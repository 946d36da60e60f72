#include "solver/audience.hpp"

#include "solver/fake_op.hpp"

#include <gtest/gtest.h>

namespace cooper::solver {
namespace {

class Words final : public ProgressSink {
public:
    void emit(ProgressEvent event) override {
        if (const auto* vertex = std::get_if<VertexEvent>(&event)) said += vertex->completed ? "end;" : "begin;";
        if (const auto* status = std::get_if<StatusEvent>(&event))
            said += status->id + "=" + std::to_string(status->current) + ";";
        if (const auto* log = std::get_if<LogEvent>(&event)) said += log->data.substr(0, 5) + ";";
        if (const auto* warning = std::get_if<WarningEvent>(&event)) said += warning->short_text + ";";
    }
    std::string said;
};

LogEvent log(std::string text) { return {.vertex = number_digest(1), .data = std::move(text), .timestamp = {}}; }
StatusEvent status(std::int64_t current) {
    return {.id = "pull", .vertex = number_digest(1), .name = "pull", .current = current, .timestamp = {}};
}
VertexEvent running() { return {.digest = number_digest(1), .name = "one", .started = Timestamp{}}; }

TEST(Audience, WhoJoinsLateIsToldWhatWasSaid) {
    Audience audience;
    Words first;
    audience.add(first, std::nullopt);
    audience.emit(running());
    audience.emit(status(1));
    audience.emit(log("hello"));
    audience.emit(status(2));
    audience.emit(WarningEvent{.short_text = "beware"});
    Words second;
    audience.add(second, running());
    EXPECT_EQ(second.said, "begin;pull=2;beware;hello;");
    audience.add(second, running());
    EXPECT_EQ(second.said, "begin;pull=2;beware;hello;");
    audience.emit(log("bye"));
    EXPECT_EQ(second.said, "begin;pull=2;beware;hello;bye;");
    EXPECT_EQ(first.said, "begin;pull=1;hello;pull=2;beware;bye;");
}

TEST(Audience, TheEndOfAVertexIsTheLastWord) {
    Audience audience;
    VertexEvent ended = running();
    ended.completed = Timestamp{};
    Words silent;
    audience.add(silent, ended);
    EXPECT_EQ(silent.said, "end;");
    audience.emit(log("hello"));
    Words late;
    audience.add(late, ended);
    EXPECT_EQ(late.said, "begin;hello;end;");
}

TEST(Audience, KeepsTheNewestOfALongLog) {
    Audience audience;
    audience.emit(log("old"));
    for (int i = 0; i < 16; ++i) audience.emit(log(std::string(1 << 16, 'x')));
    audience.emit(log("new"));
    Words late;
    audience.add(late, running());
    EXPECT_FALSE(late.said.contains("old"));
    EXPECT_TRUE(late.said.ends_with("new;"));
    EXPECT_TRUE(late.said.contains("xxxxx;"));
}

TEST(Audience, WhoLeftHearsNothingMore) {
    Audience audience;
    Words one;
    audience.add(one, std::nullopt);
    audience.remove(one);
    audience.emit(log("hello"));
    EXPECT_EQ(one.said, "");
}

}  // namespace
}  // namespace cooper::solver
