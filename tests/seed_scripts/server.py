"""A first TCP server, as one writes it: bind, listen, accept, receive, send, close. Serves one.

Its port is an argument, 0 for any, and is printed: the only thing it does that a first server
does not.
"""

import sys
from socket import AF_INET, SOCK_STREAM, socket

server = socket(AF_INET, SOCK_STREAM)

# 服务器需要绑定，否则客户端找不到它
server.bind(("", int(sys.argv[1])))

# listen 使主动套接字变为被动的
server.listen(128)
print("port:", server.getsockname()[1], flush=True)

# 每来一个客户端，就有一个新的套接字专门为它服务
client, address = server.accept()

received = client.recv(1024)
print("received:", received.decode("gbk"))

client.send("thank you !".encode("gbk"))

# 关闭这个套接字：这个客户端已经服务完毕
client.close()
server.close()
