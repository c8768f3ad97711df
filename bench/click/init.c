/*
 * The whole of a Debian middlebox but the kernel and nft. The kernel's command line says of which kind it is (kind=NAME): loads the modules that
 * /NAME.modules lists, gives both devices their addresses, forwards, loads /NAME.rules and sleeps. Static, process 1.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int device_up(int control, const char *name, const char *ip) {
  struct ifreq request = {0};
  struct sockaddr_in own = {.sin_family = AF_INET}, mask = {.sin_family = AF_INET};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
  inet_pton(AF_INET, ip, &own.sin_addr);
  inet_pton(AF_INET, "255.255.255.0", &mask.sin_addr);
  memcpy(&request.ifr_addr, &own, sizeof own);
  if (ioctl(control, SIOCSIFADDR, &request) != 0) return -1;
  memcpy(&request.ifr_netmask, &mask, sizeof mask);
  if (ioctl(control, SIOCSIFNETMASK, &request) != 0 || ioctl(control, SIOCGIFFLAGS, &request) != 0) return -1;
  request.ifr_flags |= IFF_UP;
  return ioctl(control, SIOCSIFFLAGS, &request);
}

static void load_modules(const char *path) {
  char name[128];
  FILE *list = fopen(path, "r");
  while (list != NULL && fscanf(list, "%127s", name) == 1) {
    int module = open(name, O_RDONLY);
    if (syscall(SYS_finit_module, module, "", 0) != 0) perror(name);
    close(module);
  }
  if (list != NULL) fclose(list);
}

int main(void) {
  char line[1024] = "", kind[40] = "", path[64];
  mkdir("/proc", 0755), mkdir("/dev", 0755), mkdir("/sys", 0755);
  mount("proc", "/proc", "proc", 0, "");
  mount("sysfs", "/sys", "sysfs", 0, "");
  mount("devtmpfs", "/dev", "devtmpfs", 0, "");
  int file = open("/proc/cmdline", O_RDONLY);
  if (file < 0 || read(file, line, sizeof line - 1) < 0) return 1;
  const char *word = strstr(line, "kind=");
  if (word != NULL) sscanf(word, "kind=%39s", kind);
  snprintf(path, sizeof path, "/%s.modules", kind);
  load_modules(path);
  int control = socket(AF_INET, SOCK_DGRAM, 0);
  for (int i = 0; i < 5000 && device_up(control, "eth0", "10.0.0.254") != 0; i++) usleep(1000);
  for (int i = 0; i < 5000 && device_up(control, "eth1", "10.0.1.254") != 0; i++) usleep(1000);
  int forward = open("/proc/sys/net/ipv4/ip_forward", O_WRONLY);
  if (write(forward, "1", 1) != 1) perror("ip_forward");
  snprintf(path, sizeof path, "/%s.rules", kind);
  pid_t child = fork();
  if (child == 0) execl("/usr/sbin/nft", "nft", "-f", path, NULL), perror("nft"), _exit(127);
  int status = 1;
  waitpid(child, &status, 0);
  printf(status == 0 ? "%s is ready\n" : "%s has no rules\n", kind);
  fflush(stdout);
  for (;;) pause();
}
