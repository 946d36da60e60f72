#include "run/emulation.hpp"

#include <gtest/gtest.h>

namespace cooper::run {
namespace {

std::string handler_text(std::string_view state, std::string_view flags) {
    std::string text(state);
    text += "\ninterpreter /usr/bin/qemu-aarch64-static\nflags: ";
    text += flags;
    text +=
        "\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";
    return text;
}

TEST(Emulation, ReadsHandlersOfTheKernel) {
    const auto handler = parse_binary_handler(handler_text("enabled", "OCF"));
    ASSERT_TRUE(handler);
    EXPECT_TRUE(handler->opened);
    EXPECT_EQ(handler->interpreter, "/usr/bin/qemu-aarch64-static");
    EXPECT_TRUE(handler->takes("arm64"));
    EXPECT_FALSE(handler->takes("arm"));
    EXPECT_FALSE(handler->takes("riscv64"));
    EXPECT_FALSE(handler->takes("amd64"));
    EXPECT_FALSE(parse_binary_handler(handler_text("enabled", "P"))->opened);
}

TEST(Emulation, PassesOverHandlersThatServeNoProgram) {
    EXPECT_FALSE(parse_binary_handler(handler_text("disabled", "OCF")));
    EXPECT_FALSE(parse_binary_handler("enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n"));
    EXPECT_FALSE(parse_binary_handler("enabled\ninterpreter /x\nflags: \noffset 0\nmagic 7f4\n"));
    EXPECT_FALSE(parse_binary_handler("enabled\ninterpreter relative\nflags: \noffset 0\nmagic 7f45\n"));
    EXPECT_FALSE(parse_binary_handler(""));
    // Of an offset beyond the head of a program nothing matches.
    const auto far = parse_binary_handler("enabled\ninterpreter /x\nflags: \noffset 99999\nmagic 7f45\n");
    ASSERT_TRUE(far);
    EXPECT_FALSE(far->takes("arm64"));
}

TEST(Emulation, GivesNothingWhereNothingIsNeededOrThere) {
    Emulators none("/nowhere/cooper-init", true, "none");
    EXPECT_TRUE(none.for_step("", Emulators::Binding::possible).registrations.empty());
    EXPECT_TRUE(none.for_step("s390x", Emulators::Binding::possible).registrations.empty());
    EXPECT_TRUE(none.for_step("pdp11", Emulators::Binding::possible).registrations.empty());
}

}  // namespace
}  // namespace cooper::run
