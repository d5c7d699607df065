"""A first TCP client, as one writes it: create, connect, send, receive, close. Blocking, GBK."""

from socket import AF_INET, SOCK_STREAM, socket

# 创建套接字
client = socket(AF_INET, SOCK_STREAM)

# 客户端一般不绑定：本地端口由系统随机分配
server_ip = input("server ip: ")
server_port = int(input("server port: "))
client.connect((server_ip, server_port))

text = input("text: ")
client.send(text.encode("gbk"))

# 一次最多接收 1024 个字节
received = client.recv(1024)
print("received:", received.decode("gbk"))

client.close()
